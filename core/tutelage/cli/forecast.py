"""Estimate the remaining time of a run from the steps that this process has done.

Each kind of work (stage and role) has a line ``seconds = a + b * count``, fitted to its finished steps: ``a`` is the
time per step, for example to load a model. A kind without a finished step has the line of its family: training, the
student's answers and judgements, or those of other models.

An earlier process may have run on another machine. Its durations are scaled before they are used: by the ratio of the
speeds of both processes, for the kinds that both have measured. A family that no process has measured has no estimate,
and then the whole run has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from attrs import frozen

from tutelage.planning.roles import GENERATOR
from tutelage.planning.steps import Step, Train

DECAY = 0.8
"""Factor of the weight of a finished step for each later step of its kind: the machine's load changes."""
FIRST = 0.1
"""Factor of the weight of the first step of a kind: it includes imports, compilation and the loading of weights."""
MEASURED = 0.05
"""Finished share of the current step from which its pace counts as a measurement of its kind."""

PACE_ALONE = 0.25
"""Finished share of the current step from which only its own pace counts, and not the steps before it."""

Family = Literal["training", "student", "others", "files"]


@frozen
class _Measured:
    step: Step
    seconds: float


@frozen
class _Line:
    """The expected seconds of a step: ``per_step + per_item * count``."""

    per_step: float
    per_item: float

    def seconds(self, step: Step) -> float:
        return self.per_step + self.per_item * step.count


class Forecast:
    """The finished steps of this process, the progress of the current one, and the steps of earlier processes."""

    def __init__(self) -> None:
        self._earlier: list[_Measured] = []
        self._finished: list[_Measured] = []
        self._current: _Measured | None = None

    def earlier(self, step: Step, seconds: float) -> None:
        """Record the duration of a step that an earlier process has finished, in seconds."""
        self._earlier.append(_Measured(step, seconds))

    def finished(self, step: Step, seconds: float, whole: float | None = None) -> None:
        """Record the duration of a finished step, in seconds.

        ``whole`` is the time of all its items at their measured pace. It replaces the duration if that includes the
        start of the family's work (imports, compilation), or if an earlier process has done a part of the step.
        """
        if whole is not None:
            is_first = all(_family(each.step) != _family(step) for each in self._finished)
            seconds = whole if is_first else max(seconds, whole)
        self._finished.append(_Measured(step, seconds))
        self._current = None

    def current(self, step: Step, elapsed: float, share: float, whole: float | None) -> float | None:
        """Record the progress of the current step; return its remaining seconds, or None if they are unknown.

        ``share`` is the finished share of its items, from 0 to 1. ``whole`` is the time of all its items at their
        measured pace, None if the pace was not measured yet. ``elapsed`` and ``whole`` are in seconds.
        """
        line = self._line_for(step)
        self._current = _Measured(step, whole) if whole is not None and share >= MEASURED else None
        if whole is None:
            return None if line is None else max(0.0, line.seconds(step) - elapsed)
        weight = 1.0 if line is None else min(1.0, share / PACE_ALONE)
        expected = whole if line is None else weight * whole + (1 - weight) * line.seconds(step)
        return (1 - share) * expected

    def left(self, steps: Iterable[Step]) -> float | None:
        """Return the seconds that these steps are expected to take; None if the work of one of them was not measured.

        Work on files is short and counts only if it was measured.
        """
        lines: dict[tuple[str, str], _Line | None] = {}
        total = 0.0
        for step in steps:
            kind = _kind(step)
            if kind not in lines:
                lines[kind] = self._line_for(step)
            line = lines[kind]
            if line is not None:
                total += line.seconds(step)
            elif _family(step) != "files":
                return None
        return total

    def _line_for(self, step: Step) -> _Line | None:
        measured = self._finished + ([self._current] if self._current else [])
        own = _line([each for each in self._finished if _kind(each.step) == _kind(step)])
        return own or _line_like(step, measured) or self._line_of_earlier(step)

    def _line_of_earlier(self, step: Step) -> _Line | None:
        """Return the line of earlier processes, scaled by the speed of this one. None if nothing can be compared."""
        line = _line_like(step, self._earlier)
        if line is None:
            return None
        now = earlier = 0.0
        for kind in {_kind(each.step) for each in self._finished if _family(each.step) != "files"}:
            mine = [each for each in self._finished if _kind(each.step) == kind]
            before, after = _line([each for each in self._earlier if _kind(each.step) == kind]), _line(mine)
            if before is not None and after is not None:
                now += sum(after.seconds(each.step) for each in mine)
                earlier += sum(before.seconds(each.step) for each in mine)
        return _Line(line.per_step * now / earlier, line.per_item * now / earlier) if earlier else None


def _line_like(step: Step, measured: Sequence[_Measured]) -> _Line | None:
    """Return the line of the step's kind, or of its family if there is none of its kind."""
    of_kind = [each for each in measured if _kind(each.step) == _kind(step)]
    return _line(of_kind or [each for each in measured if _family(each.step) == _family(step)])


def _line(measured: Sequence[_Measured]) -> _Line | None:
    """Return the line through the measured steps, by weighted least squares; neither term is negative."""
    if not measured:
        return None
    weights = [DECAY ** (len(measured) - 1 - index) for index in range(len(measured))]
    if len(measured) > 1:
        weights[0] *= FIRST
    counts, seconds = [each.step.count for each in measured], [each.seconds for each in measured]
    mean_count, mean_seconds = _mean(counts, weights), _mean(seconds, weights)
    if mean_count == 0:
        return _Line(mean_seconds, 0.0)
    proportional = mean_seconds / mean_count
    variance = _mean([(count - mean_count) ** 2 for count in counts], weights)
    if variance < (0.01 * mean_count) ** 2:  # the time per step and the time per item cannot be separated
        return _Line(0.0, proportional)
    products = [(count - mean_count) * (each - mean_seconds) for count, each in zip(counts, seconds, strict=True)]
    per_item = min(max(_mean(products, weights) / variance, 0.0), proportional)
    return _Line(mean_seconds - per_item * mean_count, per_item)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _kind(step: Step) -> tuple[str, str]:
    worker = getattr(step, "worker", None)
    return step.stage, worker.role if worker else ""


def _family(step: Step) -> Family:
    if isinstance(step, Train):
        return "training"
    worker = getattr(step, "worker", None)
    if worker is None:
        return "files"
    return "student" if worker.role in ("student", GENERATOR) else "others"
