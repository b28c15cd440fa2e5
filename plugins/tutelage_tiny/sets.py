"""What the world offers to learn from and to be measured on: prompts, right answers, and rated answers."""

from __future__ import annotations

import random
from itertools import cycle

from tutelage.records import Example, RatedExample
from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.rubric import ADDITIVE, grade
from tutelage_tiny.world import prompts, solve, tasks

_MOST_DRAWS = 200
"""Tasks that may be drawn for one rated example until its score comes up; the rarest score needs about 20."""


def ift(count: int, seed: int) -> list[Example]:
    """Instructions of the split ``seed`` with their right answers."""
    return [Example(prompt, solve(prompt)) for prompt in prompts("seed", count, seed)]


def eft(count: int, seed: int) -> list[RatedExample]:
    """Answers of careless writers to instructions of the split ``seed``, rated; each score comes equally often.

    A judge that had seen mostly one score would give that one.
    """
    generator = random.Random(f"rated/{seed}")
    source = tasks("seed", generator)
    carelessness = Carelessness()
    examples: dict[tuple[str, str], RatedExample] = {}
    wanted = cycle(range(int(ADDITIVE.lowest), int(ADDITIVE.highest) + 1))
    while len(examples) < count:
        score = next(wanted)
        for _ in range(_MOST_DRAWS):
            task = next(source)
            answer = write_answer(task, carelessness, generator)
            given = grade(task, answer)
            if given.score == score and (task.text, answer) not in examples:
                examples[task.text, answer] = RatedExample(task.text, answer, given.score, given.reason)
                break
        else:
            break
    return list(examples.values())
