"""Steps, counts and figures in words, the same in every command."""

from __future__ import annotations

from collections.abc import Mapping

from tutelage.evaluation.intervals import Metric
from tutelage.planning.steps import Step, Train, Worker
from tutelage.records import Outcome

OUTCOMES = {str(outcome) for outcome in Outcome}


def worker(step: Step) -> str:
    """Which model works in a step: the one that is trained, or that answers or judges; empty where none does."""
    if isinstance(step, Train):
        return step.model
    working: Worker | None = getattr(step, "worker", None)
    return working.id if working else ""


def title(step: Step) -> str:
    """A step in two words: ``judge M2/self-reward``."""
    return f"{step.stage} {worker(step)}".strip()


def counts_words(step: Step, counts: Mapping[str, int]) -> str:
    """What became of a step's items: ``2,048 answers (12 cut)``, ``480 pairs (32 tied)``."""
    if not counts:
        return step.unit
    if counts.keys() <= OUTCOMES:
        done = f"{sum(counts.values()):,} {step.unit}"
        rest = {outcome: count for outcome, count in counts.items() if outcome != Outcome.ANSWERED}
    else:
        first = next(iter(counts))
        done = f"{counts[first]:,} {first}"
        rest = {reason: count for reason, count in counts.items() if reason != first}
    left_over = ", ".join(f"{count:,} {reason}" for reason, count in rest.items() if count)
    return f"{done} ({left_over})" if left_over else done


def metric_words(metric: Metric | None, scale: float = 1.0, decimals: int = 2, sign: bool = False) -> str:
    """A figure with its 95% interval: ``3.40 [3.21, 3.58]``; a dash where nothing could be measured."""
    if metric is None or metric.value is None:
        return "-"

    def words(number: float) -> str:
        shown = round(number * scale, decimals) + 0.0  # -0.0 + 0.0 is 0.0
        return f"{shown:{'+' if sign else ''}.{decimals}f}"

    if metric.low is None or metric.high is None:
        return words(metric.value)
    return f"{words(metric.value)} [{words(metric.low)}, {words(metric.high)}]"


def seconds_words(seconds: float) -> str:
    """A time: ``0.8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
