"""How far a run is: read from its folder, without touching it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from tutelage.files.whole import temporary_beside
from tutelage.planning.artifacts import LOCK
from tutelage.planning.steps import Step
from tutelage.runs.run import Run
from tutelage.runs.store import FinishedStep, Store

State = Literal["done", "in progress", "to come"]


@frozen
class StepStatus:
    """One step of a run."""

    step: Step
    state: State
    kept: int = 0
    """Items that an unfinished step has in its journal."""
    counts: Mapping[str, int] = field(factory=dict)
    """What became of the items of a finished step."""


@frozen
class RunStatus:
    """A whole run."""

    root: Path
    recipe: str
    steps: tuple[StepStatus, ...]
    process: int | None
    """Id of the process that works on it."""

    def count(self, state: State) -> int:
        """How many steps are in a state."""
        return sum(step.state == state for step in self.steps)


def run_status(root: Path) -> RunStatus:
    """How far the run in ``root`` is. Reads only. Raises InputError where no run is there."""
    run = Run.open(root)
    notes = run.store.finished_steps()
    steps = tuple(_step_status(run.store, step, notes.get(step.output)) for step in run.plan.steps)
    return RunStatus(root, run.recipe.name, steps, _lock_holder(run.store))


def _step_status(store: Store, step: Step, note: FinishedStep | None) -> StepStatus:
    if store.has(step.output):
        return StepStatus(step, "done", counts=note.counts if note else {})
    journal = store.journal(step.output, object).path
    if journal.exists():
        return StepStatus(step, "in progress", journal.read_bytes().count(b"\n"))
    started = temporary_beside(store.path(step.output)).exists()
    return StepStatus(step, "in progress" if started else "to come")


def _lock_holder(store: Store) -> int | None:
    """The process that holds the run's lock. The number in the file alone says nothing: its process may be gone."""
    lock = store.path(LOCK)
    try:
        with lock.open("rb") as file:
            process = int(file.read().strip() or 0)
            if not process or not _is_alive(process):
                return None
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except BlockingIOError:
        return process
    except (FileNotFoundError, ValueError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
