"""Filters with counts of the items before and after each one, so that every dropped row is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import define, field, frozen

T = TypeVar("T")


@frozen
class FilterCount:
    """The counts of one filter."""

    filter: str
    """Description of the items that pass the filter."""
    entered: int
    """Number of items before the filter."""
    kept: int
    """Number of items after the filter."""


@define
class Funnel:
    """A sequence of filters and their counts."""

    counts: list[FilterCount] = field(factory=list)

    def keep(self, name: str, items: Iterable[T], test: Callable[[T], object]) -> list[T]:
        """Return the items that pass the test, and count them; ``name`` describes the items that pass."""
        entered = list(items)
        kept = [item for item in entered if test(item)]
        self.counts.append(FilterCount(name, len(entered), len(kept)))
        return kept
