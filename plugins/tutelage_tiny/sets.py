"""What the world offers to learn from and to be measured on: prompts, right answers, and rated answers."""

from __future__ import annotations

import random
from itertools import islice

from tutelage.records import Example, RatedExample
from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.rubric import ADDITIVE, grade
from tutelage_tiny.world import prompts, solve, tasks

_DRAWS_AN_EXAMPLE = 1000
"""So many tasks are drawn at most, in all, for each rated example; the rarest score needs about 30."""


def ift(count: int, seed: int) -> list[Example]:
    """Instructions of the split ``seed`` with their right answers."""
    return [Example(prompt, solve(prompt)) for prompt in prompts("seed", count, seed)]


def eft(count: int, seed: int) -> list[RatedExample]:
    """Answers of careless writers to instructions of the split ``seed``, rated; each score comes equally often.

    A judge that had seen mostly one score would give that one. The first of the scores come once more where ``count``
    is no multiple of their number.
    """
    generator = random.Random(f"rated/{seed}")
    scores = range(int(ADDITIVE.lowest), int(ADDITIVE.highest) + 1)
    missing = {score: (count + len(scores) - 1 - place) // len(scores) for place, score in enumerate(scores)}
    examples: dict[tuple[str, str], RatedExample] = {}
    for task in islice(tasks("seed", generator), _DRAWS_AN_EXAMPLE * count):
        answer = write_answer(task, Carelessness(), generator)
        given = grade(task, answer)
        if missing[int(given.score)] and (task.text, answer) not in examples:
            missing[int(given.score)] -= 1
            examples[task.text, answer] = RatedExample(task.text, answer, given.score, given.reason)
            if len(examples) == count:
                break
    return list(examples.values())
