"""How long the rest of a run will take, from what its finished steps took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tutelage.planning.steps import Step

RELATIVE_COST = {"train": 30.0, "generate": 8.0, "demonstrate": 8.0, "judge": 8.0, "evaluate": 8.0}
"""Of one item, before anything is known: a training example against an answer, an answer against a line of a file."""


class Forecast:
    """Learns seconds an item for each kind of work. A kind not yet seen is scaled from those that were."""

    def __init__(self) -> None:
        self._items: Counter[tuple[str, str]] = Counter()
        self._seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._cost = 0.0

    def finished(self, step: Step, seconds: float) -> None:
        """A step took so long."""
        kind = _kind(step)
        self._items[kind] += step.count
        self._seconds[kind] += seconds
        self._cost += _cost(step)

    def left(self, steps: Iterable[Step]) -> float | None:
        """Seconds that these steps will take; None where nothing is known yet."""
        if self._cost == 0:
            return None
        return sum(map(self._expected, steps))

    def _expected(self, step: Step) -> float:
        kind = _kind(step)
        if self._items[kind]:
            return step.count * self._seconds[kind] / self._items[kind]
        return _cost(step) * sum(self._seconds.values()) / self._cost


def _kind(step: Step) -> tuple[str, str]:
    working = getattr(step, "worker", None)
    return step.stage, working.role if working else ""


def _cost(step: Step) -> float:
    return step.count * RELATIVE_COST.get(step.stage, 0.1)
