"""How fast earlier runs of this user were, to estimate the time of a plan before it runs.

The user's cache folder has the seconds per item of each kind of work: a stage, the plugin and the model of its role.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from tutelage.errors import TutelageError
from tutelage.files.jsonl import read_json
from tutelage.files.user_cache import cache_folder
from tutelage.planning.roles import binding
from tutelage.planning.steps import Step, Train
from tutelage.recipe.schema import Recipe
from tutelage.runs.changes import Changes


@frozen
class TimeEstimate:
    """The expected duration of some steps."""

    seconds: float
    """Of the steps whose kind of work was measured before."""
    unknown: int
    """Number of the other steps."""


def kind_of(step: Step, recipe: Recipe) -> str:
    """Return the kind of work of a step: its stage, and the plugin and model of its role."""
    worker = step.start if isinstance(step, Train) else getattr(step, "worker", None)
    bound = binding(recipe, worker.role) if worker is not None else None
    method = type(step.objective).__name__ if isinstance(step, Train) else ""
    return " ".join(filter(None, (step.stage, method, f"{bound.plugin}:{bound.model}" if bound else "")))


def note_speed(step: Step, recipe: Recipe, seconds: float) -> None:
    """Remember how long a step took. A cache that cannot be written is no error."""
    if not step.count:
        return
    speeds = {**_speeds(), kind_of(step, recipe): seconds / step.count}
    temporary = _path().with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(speeds, indent=2), encoding="utf-8")
        temporary.replace(_path())


def estimate(steps: Iterable[Step], changes: Changes, recipe: Recipe) -> TimeEstimate:
    """Return the expected duration of steps.

    The speed of each kind of work is that of the finished steps of the run that ``changes`` describes, or that of
    earlier runs with the same models.
    """
    own = ((change.step, change.finished.seconds) for change in changes.steps if change.finished)
    measured = {kind_of(step, recipe): seconds / step.count for step, seconds in own if seconds and step.count}
    speeds, seconds, unknown = {**_speeds(), **measured}, 0.0, 0
    for step in steps:
        speed = speeds.get(kind_of(step, recipe))
        unknown += speed is None
        seconds += step.count * (speed or 0.0)
    return TimeEstimate(seconds, unknown)


def _speeds() -> Mapping[str, float]:
    try:
        found = read_json(_path())
    except TutelageError:
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {kind: float(speed) for kind, speed in pairs if isinstance(speed, int | float)}


def _path() -> Path:
    return cache_folder() / "speeds.json"
