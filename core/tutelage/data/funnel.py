"""Counts of what goes into each filter and what comes out, so that no row is ever lost without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import define, field, frozen

T = TypeVar("T")


@frozen
class FilterCount:
    """One filter."""

    filter: str
    """What it lets through."""
    entered: int
    kept: int


@define
class Funnel:
    """Filters one after the other, and their counts."""

    counts: list[FilterCount] = field(factory=list)

    def keep(self, name: str, items: Iterable[T], test: Callable[[T], object]) -> list[T]:
        """The items that pass the test; ``name`` says which ones do."""
        everything = list(items)
        kept = [item for item in everything if test(item)]
        self.counts.append(FilterCount(name, len(everything), len(kept)))
        return kept
