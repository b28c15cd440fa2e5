"""The reports of the runner during a run. The command line shows them; a library user may pass a reporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from tutelage.planning.steps import Step
from tutelage.runs.run import Run


@frozen
class EarlierStep:
    """A step that an earlier process has done, perhaps on another machine."""

    step: Step
    seconds: float | None
    """Time that it took; None if it is not recorded."""


def earlier_steps(run: Run, remaining: Sequence[Step]) -> list[EarlierStep]:
    """Return the steps of a run's plan that are not ``remaining``, with their recorded durations."""
    notes, outputs = run.store.finished_steps(), {step.output for step in remaining}
    return [
        EarlierStep(step, notes[step.output].seconds if step.output in notes else None)
        for step in run.plan.steps
        if step.output not in outputs
    ]


class Reporter(Protocol):
    """Receives the reports of a run."""

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        """Called once, before the first step starts, with the steps that are left, and with the steps of the plan that
        earlier processes have done."""

    def started(self, step: Step) -> None:
        """Called when a step starts."""

    def expected(self, step: Step, total: int) -> None:
        """Called when the number of items of a step is known. The count in the plan is only an upper bound, and a
        training counts optimizer steps."""

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        """Called with the number of items finished since the last call. ``cost`` is the US dollars that the step has
        spent so far."""

    def logged(self, step: Step, row: Mapping[str, Any]) -> None:
        """Called with the metrics of each step of a training, with TRL's names and ``step``. A training that continues
        logs the rows of its earlier steps again."""

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """Called when a step is done, with its duration and its counts of items, by outcome or by reason dropped."""

    def note(self, text: str) -> None:
        """Called with a message for the user, in one line."""


class Silent:
    """A reporter that does nothing."""

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        """Do nothing."""

    def started(self, step: Step) -> None:
        """Do nothing."""

    def expected(self, step: Step, total: int) -> None:
        """Do nothing."""

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        """Do nothing."""

    def logged(self, step: Step, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
