"""The progress of a run, read from its folder. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, field, frozen

from tutelage.files.locking import lock_holder
from tutelage.files.whole import temporary_beside
from tutelage.planning.artifacts import DESCRIPTION, LOCK, STEP_LOG, VARIANTS
from tutelage.planning.steps import Step, Train
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.run import Run
from tutelage.runs.speeds import TimeEstimate, expected_time
from tutelage.runs.started import read_live_metrics, read_started, seconds_since_note
from tutelage.runs.store import Store, is_run

State = Literal["done", "in progress", "to come"]


@frozen
class StepStatus:
    """The progress of one step."""

    step: Step
    """The step."""
    state: State
    """Whether the step is finished."""
    kept: int = 0
    """Number of finished items in the journal of an unfinished step. Of the training that is being done, its progress
    in the unit of the plan."""
    counts: Mapping[str, int] = field(factory=dict)
    """Number of items of a finished step, by outcome or by the reason for which they were dropped."""


@frozen
class CurrentStep:
    """The step that is being done, as its process last reported it."""

    step: Step
    """The step."""
    items: int
    """Number of finished items; of a training, optimizer steps."""
    expected: int | None
    """Number of all items; None if it is not known yet."""
    seconds: float
    """Time that all processes worked on the step."""
    cost: float
    """US dollars that they spent on it."""
    rows: Sequence[Mapping[str, Any]] = ()
    """The metrics of a training so far."""

    @property
    def share(self) -> float:
        """The finished share of the step, from 0 to 1."""
        return min(1.0, self.items / self.expected) if self.expected else 0.0


@frozen
class RunStatus:
    """The progress of a run."""

    root: Path
    """Folder of the run."""
    recipe: str
    """Name of the recipe."""
    steps: tuple[StepStatus, ...]
    """The progress of each step, in the order of the plan."""
    process: int | None
    """Id of the process that works on the run; None if none does, 0 if its id is unknown."""
    variants: tuple[RunStatus, ...] = ()
    """The progress of the recipe's variants that are begun."""
    started: datetime | None = None
    """Time at which the run was started; None if it is not recorded."""
    changed: datetime | None = None
    """Time at which the last step was finished; None if none is."""
    seconds: float = 0.0
    """Time that all processes together worked on the finished steps."""
    cost: float = 0.0
    """US dollars of the finished steps. Requests without a known price are not included."""
    left: TimeEstimate = TimeEstimate(0.0, 0)
    """The expected duration of the steps that are not done."""
    current: CurrentStep | None = None
    """The step that a process is working on; None if no process works on the run."""

    def count(self, state: State) -> int:
        """Return the number of steps in a state."""
        return sum(step.state == state for step in self.steps)


def run_status(root: Path) -> RunStatus:
    """Return the progress of the run in ``root``, without changing it. Raises InputError if there is no run."""
    run = Run.open(root)
    process = lock_holder(run.store.path(LOCK))
    notes = run.store.finished_steps()
    current = None if process is None else _current_step(run)
    steps = tuple(_step_status(run.store, step, notes.get(step.output), current) for step in run.plan.steps)
    folders = sorted(path for path in run.store.path(VARIANTS).glob("*") if is_run(path))
    variants = tuple(run_status(folder) for folder in folders)
    finished = [(step.step, notes[step.step.output].seconds) for step in steps if step.step.output in notes]
    remaining = [evolve(step.step, count=max(0, step.step.count - step.kept)) for step in steps if step.state != "done"]
    return RunStatus(
        root,
        run.recipe.name,
        steps,
        process,
        variants,
        started=_started(run.store),
        changed=_changed(run.store) if notes else None,
        seconds=sum(note.seconds for note in notes.values()),
        cost=sum(note.cost for note in notes.values()),
        left=expected_time(remaining, finished, run.recipe),
        current=current,
    )


def damaged_artifacts(status: RunStatus) -> list[str]:
    """Return what is wrong with the finished artifacts of a run, and how to make them again. Reads all of them."""
    store = Store(status.root)
    found = [problem for step in status.steps for problem in store.problems(step.step.output, checksums=True)]
    return found + [problem for variant in status.variants for problem in damaged_artifacts(variant)]


def _started(store: Store) -> datetime | None:
    try:
        return datetime.fromisoformat(json.loads(store.path(DESCRIPTION).read_text("utf-8"))["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _changed(store: Store) -> datetime | None:
    try:
        return datetime.fromtimestamp(store.path(STEP_LOG).stat().st_mtime, UTC)
    except OSError:
        return None


def _current_step(run: Run) -> CurrentStep | None:
    for step in run.plan.steps:
        note = None if run.store.has(step.output) else read_started(run.store, step.output)
        if note is not None:
            rows = read_live_metrics(run.store, step.output)
            items = max(note.items, int(rows[-1].get("step", 0))) if rows else note.items
            expected = note.expected or (None if isinstance(step, Train) else step.count or None)
            seconds = note.seconds + seconds_since_note(run.store, step.output)
            return CurrentStep(step, items, expected, seconds, note.cost, rows)
    return None


def _step_status(store: Store, step: Step, note: FinishedStep | None, current: CurrentStep | None) -> StepStatus:
    if store.has(step.output):
        return StepStatus(step, "done", counts=note.counts if note else {})
    journal = store.journal(step.output, object).path
    if journal.exists():
        return StepStatus(step, "in progress", journal.read_bytes().count(b"\n"))
    if current is not None and current.step == step and isinstance(step, Train):
        return StepStatus(step, "in progress", round(step.count * current.share))
    started = temporary_beside(store.path(step.output)).exists()
    return StepStatus(step, "in progress" if started else "to come")
