"""Texts for steps, counts, metrics and durations, used by all commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.chance import Chance
from tutelage.evaluation.intervals import Metric
from tutelage.measure import MeasureInfo
from tutelage.planning.measure_steps import TakeMeasure
from tutelage.planning.steps import Step, Train, Worker
from tutelage.records import Outcome

CANNOT_TELL = "cannot tell"
"""Shown in place of an interval that cannot be computed, see ``Metric.no_interval``."""
OUTCOMES = {str(outcome) for outcome in Outcome}


def worker(step: Step) -> str:
    """Return the id of the model that a step trains or measures, or that answers or judges in it; empty for none."""
    if isinstance(step, Train | TakeMeasure):
        return step.model
    working: Worker | None = getattr(step, "worker", None)
    return working.id if working else ""


def title(step: Step) -> str:
    """Return a step as text, with its stage and its model: ``judge M2/self-reward``."""
    return f"{step.stage} {worker(step)}".strip()


def counts_words(step: Step, counts: Mapping[str, int]) -> str:
    """Return the counts of a step as text: ``2,048 answers (12 cut)``, ``480 pairs (32 tied)``.

    The total of answers includes the outcomes in parentheses; other counts in parentheses were dropped.
    """
    if not counts:
        return step.unit
    if counts.keys() <= OUTCOMES:
        main = f"{sum(counts.values()):,} {step.unit}"
        others = {outcome: count for outcome, count in counts.items() if outcome != Outcome.ANSWERED}
    else:
        first = next(iter(counts))
        main = f"{counts[first]:,} {first}"
        others = {reason: count for reason, count in counts.items() if reason != first}
    details = ", ".join(f"{count:,} {reason}" for reason, count in others.items() if count)
    return f"{main} ({details})" if details else main


TRAINING_FIGURES = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
"""The metrics of a training that are shown while it runs, by TRL's names. SFT has only a loss."""


def training_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a logged row that are shown, by the names that they are shown with."""
    return {label: row[name] for name, label in TRAINING_FIGURES.items() if isinstance(row.get(name), int | float)}


def training_words(row: Mapping[str, Any]) -> str:
    """Return the metrics of a logged row as text: ``loss 0.612, margin 0.17, accuracy 0.81``."""
    return ", ".join(f"{label} {figure_word(label, value)}" for label, value in training_figures(row).items())


def figure_word(label: str, value: float) -> str:
    """Return the value of a metric of a training as text."""
    return f"{value:.2f}" if label == "accuracy" else f"{value:.3g}"


def metric_words(metric: Metric | None, scale: float = 1.0, decimals: int = 2, sign: bool = False) -> str:
    """Return a metric with its 95% interval as text: ``3.40 [3.21, 3.58]``; a dash if it has no value.

    If there is no interval, the text is ``3.40 [cannot tell]``.
    The numbers are multiplied by ``scale``; ``sign`` adds a plus sign to positive numbers.
    """
    if metric is None or metric.value is None:
        return "-"

    def formatted(number: float) -> str:
        rounded = round(number * scale, decimals) + 0.0  # turns -0.0 into 0.0
        return f"{rounded:{'+' if sign else ''}.{decimals}f}"

    if metric.low is None or metric.high is None:
        return f"{formatted(metric.value)} [{CANNOT_TELL}]" if metric.no_interval else formatted(metric.value)
    return f"{formatted(metric.value)} [{formatted(metric.low)}, {formatted(metric.high)}]"


def measure_words(info: MeasureInfo) -> str:
    """Return what a measure is, its unit, and which values are better: ``mean length, in words, lower is better``."""
    unit = f", in {info.unit}" if info.unit else ""
    better = "" if info.better == "neither" else f", {info.better} is better"
    return f"{info.help.rstrip('.')}{unit}{better}"


def measured_words(metric: Metric | None, info: MeasureInfo, sign: bool = False) -> str:
    """Return the figure of a measure with its interval as text; a share in percent."""
    return metric_words(metric, scale=100 if info.is_share else 1, decimals=1 if info.is_share else 2, sign=sign)


def p_words(p_value: float | None) -> str:
    """Return a p-value as text; a dash if there is none."""
    if p_value is None:
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def skill_words(chance: Chance, judge: str) -> str:
    """Return what a judge without skill reaches as text, pairwise accuracy and Spearman: ``39%, 0.00``.

    A dash if neither is known.
    """
    accuracy, spearman = (chance.get(judge, {}).get(name) for name in ("pairwise_accuracy", "spearman"))
    shown = "-" if accuracy is None else f"{accuracy:.0%}", "-" if spearman is None else f"{spearman + 0.0:.2f}"
    return "-" if shown == ("-", "-") else ", ".join(shown)


def seconds_words(seconds: float) -> str:
    """Return a duration as text: ``0.8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, remaining = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remaining} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
