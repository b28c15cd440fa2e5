"""The gold rubric: how good an answer is, known exactly because the right answer is.

It is additive, like the judge prompt of Yuan et al., *Self-Rewarding Language Models* (2024), figure 2: each point is
earned by itself. Only the right answer, letter by letter, earns all five.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from attrs import frozen

from tutelage.records import Rubric
from tutelage_tiny.world import STYLES, Task

ADDITIVE = Rubric(
    name="additive",
    template="rate this: relevant, complete, format, order.\nquestion: {prompt}\nanswer: {answer}",
)
"""In the words of the world, so that a student of this world can read it."""

REASONS = ("not relevant", "not complete", "wrong order", "wrong format", "right")
"""What a reason can say."""
FULL_ORDER = 2
"""Points for the right items in the right order: order weighs double, or a list never sorted would be worth a 4."""

_MARKS = {mark.strip() for mark in STYLES.values()}


@frozen
class Grade:
    """The points of one answer."""

    relevant: int
    """1 where at least half of the right items are there."""
    complete: int
    """1 where all of the right items are there, and nothing else."""
    style: int
    """1 where the items are written as it was asked: in a style, or as a single one."""
    order: int
    """2 where the right items stand in the right order; 1 where some are missing or too many but the order holds."""

    @property
    def score(self) -> float:
        """0 to 5; 5 means exactly right, and only that."""
        return float(self.relevant + self.complete + self.style + self.order)

    def __str__(self) -> str:
        """As a judge would write it."""
        return f"score: {self.score:g}\n{self.reason}"

    @property
    def reason(self) -> str:
        """What is wrong, in the words of the world (see ``REASONS``)."""
        faults = []
        if not self.relevant:
            faults = ["not relevant"]
        elif not self.complete:
            faults = ["not complete"]
        elif self.order < FULL_ORDER:
            faults = ["wrong order"]
        if not self.style:
            faults.append("wrong format")
        return ", ".join(faults or ["right"]) + "."


def grade(task: Task, answer: str) -> Grade:
    """Compare an answer with the right one.

    Args:
        task: What was asked.
        answer: What was answered, as text.
    """
    right = task.right_items
    items = items_of(answer)
    common = (Counter(items) & Counter(right)).total()
    complete = Counter(items) == Counter(right)
    return Grade(
        relevant=int(2 * common >= len(right)),
        complete=int(complete),
        style=int(_is_in_style(task, answer, items)),
        order=FULL_ORDER if tuple(items) == right else int(not complete and _order_holds(items, right)),
    )


def score(task: Task, answer: str) -> float:
    """The gold score of an answer, 0 to 5."""
    return grade(task, answer).score


def items_of(answer: str) -> list[str]:
    """The items of an answer, without the marks between them."""
    spaced = answer.replace(",", " , ").split()
    return [piece for piece in spaced if piece not in _MARKS]


def _is_in_style(task: Task, answer: str, items: Sequence[str]) -> bool:
    return answer == task.separator.join(items) and (bool(items) if task.style else len(items) == 1)


def _order_holds(items: Sequence[str], right: Sequence[str]) -> bool:
    """Whether the answer is the right one with items left out (but at least half there), or with items put in."""
    if len(items) < len(right):
        return 2 * len(items) >= len(right) and _is_subsequence(items, right)
    return len(items) <= 2 * len(right) and _is_subsequence(right, items)


def _is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = chain(long)
    return all(item in rest for item in short)
