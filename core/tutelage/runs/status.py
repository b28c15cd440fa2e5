"""The progress of a run, read from its folder. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from tutelage.files.locking import lock_holder
from tutelage.files.whole import temporary_beside
from tutelage.planning.artifacts import LOCK, VARIANTS
from tutelage.planning.steps import Step
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.run import Run
from tutelage.runs.store import Store, is_run

State = Literal["done", "in progress", "to come"]


@frozen
class StepStatus:
    """The progress of one step."""

    step: Step
    state: State
    kept: int = 0
    """Number of finished items in the journal of an unfinished step."""
    counts: Mapping[str, int] = field(factory=dict)
    """Number of items of a finished step, by outcome or by the reason for which they were dropped."""


@frozen
class RunStatus:
    """The progress of a run."""

    root: Path
    recipe: str
    steps: tuple[StepStatus, ...]
    process: int | None
    """Id of the process that works on the run; None if none does, 0 if its id is unknown."""
    variants: tuple[RunStatus, ...] = ()
    """The progress of the recipe's variants that are begun."""

    def count(self, state: State) -> int:
        """Return the number of steps in a state."""
        return sum(step.state == state for step in self.steps)


def run_status(root: Path) -> RunStatus:
    """Return the progress of the run in ``root``, without changing it. Raises InputError if there is no run."""
    run = Run.open(root)
    notes = run.store.finished_steps()
    steps = tuple(_step_status(run.store, step, notes.get(step.output)) for step in run.plan.steps)
    folders = sorted(path for path in run.store.path(VARIANTS).glob("*") if is_run(path))
    variants = tuple(run_status(folder) for folder in folders)
    return RunStatus(root, run.recipe.name, steps, lock_holder(run.store.path(LOCK)), variants)


def damaged_artifacts(status: RunStatus) -> list[str]:
    """Return what is wrong with the finished artifacts of a run, and how to make them again. Reads all of them."""
    store = Store(status.root)
    found = [problem for step in status.steps for problem in store.problems(step.step.output, checksums=True)]
    return found + [problem for variant in status.variants for problem in damaged_artifacts(variant)]


def _step_status(store: Store, step: Step, note: FinishedStep | None) -> StepStatus:
    if store.has(step.output):
        return StepStatus(step, "done", counts=note.counts if note else {})
    journal = store.journal(step.output, object).path
    if journal.exists():
        return StepStatus(step, "in progress", journal.read_bytes().count(b"\n"))
    started = temporary_beside(store.path(step.output)).exists()
    return StepStatus(step, "in progress" if started else "to come")
