"""Comparisons that need no evaluator: equal answers are a tie."""

from __future__ import annotations

from collections.abc import Iterable

from tutelage.records import Comparison, Verdict

TIE = 0.5


def split_equal(comparisons: Iterable[Comparison]) -> tuple[list[Comparison], list[Verdict]]:
    """The comparisons to ask an evaluator about, and the ties of those whose answers are equal.

    Answers are equal if they differ only in white space at their ends.
    """
    asked: list[Comparison] = []
    ties: list[Verdict] = []
    for comparison in comparisons:
        if comparison.first.strip() == comparison.second.strip():
            ties.append(Verdict(comparison.id, TIE, detail="equal answers, not asked"))
        else:
            asked.append(comparison)
    return asked, ties
