"""The metrics of AlpacaEval 2.0 from annotated comparisons (Dubois et al., 2024, "Length-Controlled AlpacaEval").

The definitions are those of alpaca_eval 0.6.6 (``metrics.get_winrate``); a test compares the results with the
library's. This module does not import the library, so that stored annotations can be evaluated without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import DEFAULT, Bootstrap, Clusters, ratio_metrics


@frozen
class Annotation:
    """The annotator's preference for one instruction."""

    instruction: str
    output_1: str
    """The baseline's answer."""
    output_2: str
    """The model's answer."""
    preference: float | None
    """From 1 (the baseline's answer is better) to 2 (the model's is). 1.5 or 0 is a draw; None is an unparsed reply."""
    generator_1: str = ""
    """Name of the baseline."""
    generator_2: str = ""
    """Name of the model."""
    annotator: str = ""
    """Name of the annotator."""


@frozen
class WinRates:
    """Win rates of a model against the baseline, in percent."""

    win_rate: float | None
    """Mean probability that the model's answer is preferred; None if no annotation has a preference."""
    low: float | None
    """Lower end of the 95% interval of the win rate, see ``evaluation.shares``."""
    high: float | None
    """Upper end of the interval."""
    standard_error: float | None
    """Standard error of the win rate: standard deviation (with n - 1) divided by the square root of n."""
    discrete_win_rate: float | None
    """The win rate with each preference rounded to a win or a loss; a draw counts half."""
    n_wins: int
    """Number of annotations that prefer the model."""
    n_wins_base: int
    """Number of annotations that prefer the baseline."""
    n_draws: int
    n_total: int
    """Number of annotations with a preference; the rates are computed from these."""
    unparsed: int
    """Number of annotations without a preference; the rates leave them out."""


def win_rates(annotations: Iterable[Annotation], bootstrap: Bootstrap = DEFAULT) -> WinRates:
    """Compute win rate, discrete win rate and standard error of one model.

    Raises ``InputError`` if an instruction occurs twice, if there are several models or baselines, or if a preference
    is neither 0 nor between 1 and 2.
    """
    annotations = list(annotations)
    check(annotations)
    gains = [gain for annotation in annotations if (gain := model_gain(annotation)) is not None]
    wins, losses = sum(gain > 0.5 for gain in gains), sum(gain < 0.5 for gain in gains)
    draws = len(gains) - wins - losses
    low, high = _interval(annotations, bootstrap)
    return WinRates(
        win_rate=percent(gains),
        low=low,
        high=high,
        standard_error=standard_error(gains),
        discrete_win_rate=100 * (wins + draws / 2) / len(gains) if gains else None,
        n_wins=wins,
        n_wins_base=losses,
        n_draws=draws,
        n_total=len(gains),
        unparsed=len(annotations) - len(gains),
    )


def model_gain(annotation: Annotation) -> float | None:
    """Return the probability (0 to 1) that the model's answer is better; 0.5 for a draw, None without a preference."""
    preference = annotation.preference
    if preference is None:
        return None
    return 0.5 if preference == 0 else preference - 1


def percent(shares: Sequence[float]) -> float | None:
    """Return the mean in percent; None for an empty sequence."""
    return 100 * math.fsum(shares) / len(shares) if shares else None


def standard_error(shares: Sequence[float]) -> float | None:
    """Return the standard error of the mean in percent; None for fewer than two values."""
    if len(shares) < 2:
        return None
    mean = math.fsum(shares) / len(shares)
    variance = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return 100 * math.sqrt(variance / len(shares))


def check(annotations: Sequence[Annotation]) -> None:
    """Raise ``InputError`` if these are not the annotations of one model against one baseline, one per instruction."""
    seen: set[str] = set()
    for annotation in annotations:
        about = f"instruction {annotation.instruction[:60]!r}"
        if annotation.instruction in seen:
            raise InputError(f"{about} is annotated twice; give one annotation per instruction")
        seen.add(annotation.instruction)
        preference = annotation.preference
        if preference is not None and preference != 0 and not 1 <= preference <= 2:
            raise InputError(f"{about}: its preference {preference} is not between 1 and 2 (1.5 or 0 is a draw)")
    for side in ("generator_1", "generator_2"):
        names = sorted({getattr(annotation, side) for annotation in annotations})
        if len(names) > 1:
            raise InputError(
                f"{side} differs between the annotations: {', '.join(names)}; "
                "give the annotations of one model at a time"
            )


def _interval(annotations: Sequence[Annotation], bootstrap: Bootstrap) -> tuple[float | None, float | None]:
    import numpy as np

    known = [(one.instruction, gain) for one in annotations if (gain := model_gain(one)) is not None]
    keys = [(0, instruction) for instruction, _ in known]
    clusters = Clusters.of(keys)
    sums, counts = clusters.sums(keys, [gain for _, gain in known]), clusters.sums(keys, np.ones(len(keys)))
    (metric,) = ratio_metrics(sums[:, None], counts[:, None], clusters, bootstrap, proportion=True)
    if metric.low is None or metric.high is None:
        return None, None
    return 100 * metric.low, 100 * metric.high
