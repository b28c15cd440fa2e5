"""How fast earlier runs of this user were, to estimate the time of a plan before it runs.

The user's cache folder has the seconds per item of each kind of work: a stage, the plugin and the model of its role.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from tutelage.files.user_cache import read_cached, write_cached
from tutelage.planning.roles import binding
from tutelage.planning.steps import Step, Train
from tutelage.recipe.schema import Recipe
from tutelage.runs.changes import Changes

_KIND = "speeds"


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
    """Remember how long a step took."""
    if step.count:
        write_cached(_KIND, kind_of(step, recipe), seconds / step.count)


def estimate(steps: Iterable[Step], changes: Changes, recipe: Recipe) -> TimeEstimate:
    """Return the expected duration of steps.

    The speed of each kind of work is that of the finished steps of the run that ``changes`` describes, or that of
    earlier runs with the same models.
    """
    own = ((change.step, change.finished.seconds) for change in changes.steps if change.finished)
    return expected_time(steps, own, recipe)


def expected_time(steps: Iterable[Step], finished: Iterable[tuple[Step, float]], recipe: Recipe) -> TimeEstimate:
    """Return the expected duration of steps, from finished steps with their seconds and from earlier runs."""
    speeds: dict[str, float | None] = {
        kind_of(step, recipe): seconds / step.count for step, seconds in finished if seconds and step.count
    }
    total, unknown = 0.0, 0
    for step in steps:
        kind = kind_of(step, recipe)
        if kind not in speeds:
            speeds[kind] = _earlier_speed(kind)
        speed = speeds[kind]
        unknown += speed is None
        total += step.count * (speed or 0.0)
    return TimeEstimate(total, unknown)


def _earlier_speed(kind: str) -> float | None:
    stored = read_cached(_KIND, kind)
    return float(stored) if isinstance(stored, int | float) else None
