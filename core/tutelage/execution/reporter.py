"""What the runner tells while it works. The command line shows it; a library user may listen, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tutelage.planning.steps import Step


class Reporter(Protocol):
    """Listens to a run."""

    def planned(self, steps: Sequence[Step]) -> None:
        """The steps that are still to do, before the first starts."""

    def started(self, step: Step) -> None:
        """A step begins."""

    def expected(self, step: Step, total: int) -> None:
        """A step knows how many items it has: the plan's count is an upper bound, and training counts its own steps."""

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        """So many more items of the step are done; ``cost`` is what the step has spent so far, in US dollars."""

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """A step is done: how long it took, and what became of its items, by outcome or by reason dropped."""

    def note(self, text: str) -> None:
        """Something that the user should know, in one line."""


class Silent:
    """A reporter for those who do not listen."""

    def planned(self, steps: Sequence[Step]) -> None:
        """Say nothing."""

    def started(self, step: Step) -> None:
        """Say nothing."""

    def expected(self, step: Step, total: int) -> None:
        """Say nothing."""

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        """Say nothing."""

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""
