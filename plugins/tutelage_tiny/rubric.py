"""The gold rubric: an exact score of an answer, computed from the right answer.

It is additive, like the judge prompt of Yuan et al., *Self-Rewarding Language Models* (2024), figure 2: the points are
independent. Only an answer that equals the right answer in every character gets all five.
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
    score_prefix="score: ",
)
"""The template uses only words of the world, so that the student's tokenizer has a token for each."""

REASONS = ("not relevant", "not complete", "wrong order", "wrong format", "right")
"""The parts of a reason."""
FULL_ORDER = 2
"""Points for the right items in the right order. Order counts twice, so that an unsorted list scores 3, not 4."""

_MARKS = {mark.strip() for mark in STYLES.values()}


@frozen
class Grade:
    """The points of one answer."""

    relevant: int
    """1 if the answer has at least half of the right items."""
    complete: int
    """1 if the answer has exactly the right items, in any order."""
    style: int
    """1 if the items are written in the requested style, or as a single item."""
    order: int
    """2 for the right items in the right order; 1 if items are missing or added but the order is right."""

    @property
    def score(self) -> float:
        """Return the sum of the points, 0 to 5. It is 5 only for the exact right answer."""
        return float(self.relevant + self.complete + self.style + self.order)

    def __str__(self) -> str:
        """Return the grade as the reply of a judge."""
        return f"score: {self.score:g}\n{self.reason}"

    @property
    def reason(self) -> str:
        """Return the mistakes as text, made of ``REASONS``."""
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
    """Return the points of an answer to a task."""
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
    """Return the gold score of an answer, 0 to 5."""
    return grade(task, answer).score


def items_of(answer: str) -> list[str]:
    """Return the items of an answer, without the marks between them."""
    spaced = answer.replace(",", " , ").split()
    return [piece for piece in spaced if piece not in _MARKS]


def _is_in_style(task: Task, answer: str, items: Sequence[str]) -> bool:
    return answer == task.separator.join(items) and (bool(items) if task.style else len(items) == 1)


def _order_holds(items: Sequence[str], right: Sequence[str]) -> bool:
    """Whether the answer is the right answer with items removed (at most half) or added (at most as many)."""
    if len(items) < len(right):
        return 2 * len(items) >= len(right) and _is_subsequence(items, right)
    return len(items) <= 2 * len(right) and _is_subsequence(right, items)


def _is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    remaining = chain(long)  # an iterator: `in` consumes it up to the item that it finds
    return all(item in remaining for item in short)
