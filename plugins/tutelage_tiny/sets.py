"""The examples of the world: right answers (IFT), rated answers (EFT), and preference pairs."""

from __future__ import annotations

import random
from itertools import islice

from tutelage.examples import Example, Preference, RatedExample
from tutelage.records import content_id
from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.rubric import ADDITIVE, grade
from tutelage_tiny.world import prompts, solve, tasks

_MAX_DRAWS_PER_EXAMPLE = 1000
"""Maximum number of tasks drawn per rated example or pair, on average. The rarest score needs about 30."""


def ift(count: int, seed: int) -> list[Example]:
    """Return instructions of the split ``seed`` with their right answers."""
    return [Example(prompt, solve(prompt)) for prompt in prompts("seed", count, seed)]


def eft(count: int, seed: int) -> list[RatedExample]:
    """Return rated answers with mistakes to instructions of the split ``seed``, with equal counts of each score.

    Unequal counts would bias a judge towards the most frequent score. If ``count`` is not a multiple of the number of
    scores, the lowest scores occur once more.
    """
    generator = random.Random(f"rated/{seed}")
    scores = range(int(ADDITIVE.lowest), int(ADDITIVE.highest) + 1)
    missing = {score: (count + len(scores) - 1 - index) // len(scores) for index, score in enumerate(scores)}
    examples: dict[tuple[str, str], RatedExample] = {}
    for task in islice(tasks("seed", generator), _MAX_DRAWS_PER_EXAMPLE * count):
        answer = write_answer(task, Carelessness(), generator)
        graded = grade(task, answer)
        if missing[int(graded.score)] and (task.text, answer) not in examples:
            missing[int(graded.score)] -= 1
            examples[task.text, answer] = RatedExample(task.text, answer, graded.score, graded.reason)
            if len(examples) == count:
                break
    return list(examples.values())


def preferences(count: int, seed: int) -> list[Preference]:
    """Return preference pairs for instructions of the split ``train``, with the gold scores of both sides.

    The right answer is chosen, an answer with mistakes is rejected. Each instruction has one pair.
    """
    generator = random.Random(f"preferences/{seed}")
    pairs: dict[str, Preference] = {}
    for task in islice(tasks("train", generator), _MAX_DRAWS_PER_EXAMPLE * count):
        answer = write_answer(task, Carelessness(), generator)
        graded = grade(task, answer)
        if answer.strip() and graded.score < ADDITIVE.highest and task.text not in pairs:
            id = content_id(task.text)
            ids = f"{id}/right", f"{id}/wrong"
            pairs[task.text] = Preference(id, task.text, task.answer, answer, *ids, ADDITIVE.highest, graded.score)
            if len(pairs) == count:
                break
    return list(pairs.values())
