"""Estimate the remaining time of a run from the duration of its finished steps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tutelage.planning.steps import Step

RELATIVE_COST = {"train": 30.0, "generate": 8.0, "demonstrate": 8.0, "judge": 8.0, "evaluate": 8.0}
"""Assumed cost of one item by stage, relative to 1; other stages have 0.1. Scales the durations of unseen work."""


class Forecast:
    """Measures seconds per item for each (stage, role). Work without a finished step is scaled by ``RELATIVE_COST``."""

    def __init__(self) -> None:
        self._items: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._cost = 0.0

    def finished(self, step: Step, seconds: float) -> None:
        """Record the duration of a finished step, in seconds."""
        kind = _kind(step)
        self._items[kind] += step.count
        self._seconds[kind] += seconds
        self._cost += _cost(step)

    def left(self, steps: Iterable[Step]) -> float | None:
        """Return the seconds that these steps are expected to take; None if no step has finished yet."""
        if self._cost == 0:
            return None
        return sum(map(self._expected, steps))

    def _expected(self, step: Step) -> float:
        kind = _kind(step)
        if self._items[kind]:
            return step.count * self._seconds[kind] / self._items[kind]
        return _cost(step) * sum(self._seconds.values()) / self._cost


def _kind(step: Step) -> tuple[str, str]:
    worker = getattr(step, "worker", None)
    return step.stage, worker.role if worker else ""


def _cost(step: Step) -> float:
    return step.count * RELATIVE_COST.get(step.stage, 0.1)
