"""The figures of AlpacaEval 2.0 from annotated comparisons (Dubois et al., 2024, "Length-Controlled AlpacaEval").

The definitions are those of alpaca_eval 0.6.6 (``metrics.get_winrate``), and a test holds these few lines to the
library. They do not import it: stored annotations stay readable where the library can't be installed any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import DEFAULT, Bootstrap, Clusters, ratio_metrics


@frozen
class Annotation:
    """What the annotator said of one instruction."""

    instruction: str
    output_1: str
    """The baseline's answer."""
    output_2: str
    """The model's answer."""
    preference: float | None
    """1 (the baseline's is better) to 2 (the model's is); 1.5, or 0, is a draw, None an unparsed reply."""
    generator_1: str = ""
    generator_2: str = ""
    annotator: str = ""


@frozen
class WinRates:
    """A model against the baseline, in percent."""

    win_rate: float | None
    """Mean probability that the model's answer is preferred; None where nothing was parsed."""
    low: float | None
    """95% interval of the win rate: a bootstrap over instructions."""
    high: float | None
    standard_error: float | None
    """Of the win rate: standard deviation (n - 1) over the root of n."""
    discrete_win_rate: float | None
    """The same with each preference rounded to a win or a loss; a draw counts half."""
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    """Annotations with a preference: what the rates rest on."""
    unparsed: int
    """Annotations without one: left out, and counted here."""
    avg_length: int | None
    """Mean length of the model's answers in characters."""


def win_rates(annotations: Iterable[Annotation], bootstrap: Bootstrap = DEFAULT) -> WinRates:
    """Win rate, discrete win rate and standard error of one model.

    Raises ``InputError`` where an instruction is there twice, the annotations are of several models or baselines, or a
    preference is neither 0 nor between 1 and 2.
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
        avg_length=_mean_length(annotations),
    )


def model_gain(annotation: Annotation) -> float | None:
    """Probability that the model's answer is the better one: the preference from 0 to 1, a draw being 0.5."""
    preference = annotation.preference
    if preference is None:
        return None
    return 0.5 if preference == 0 else preference - 1


def percent(shares: Sequence[float]) -> float | None:
    """Mean in percent; None of nothing."""
    return 100 * math.fsum(shares) / len(shares) if shares else None


def standard_error(shares: Sequence[float]) -> float | None:
    """Standard error of the mean in percent; None of fewer than two."""
    if len(shares) < 2:
        return None
    mean = math.fsum(shares) / len(shares)
    variance = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return 100 * math.sqrt(variance / len(shares))


def check(annotations: Sequence[Annotation]) -> None:
    """Raise ``InputError`` where these are not the annotations of one model against one baseline."""
    seen: set[str] = set()
    for annotation in annotations:
        about = f"instruction {annotation.instruction[:60]!r}"
        if annotation.instruction in seen:
            raise InputError(f"{about} is annotated twice; one annotation an instruction counts")
        seen.add(annotation.instruction)
        preference = annotation.preference
        if preference is not None and preference != 0 and not 1 <= preference <= 2:
            raise InputError(f"{about}: its preference {preference} is not between 1 and 2 (1.5 or 0 is a draw)")
    for side in ("generator_1", "generator_2"):
        names = sorted({getattr(annotation, side) for annotation in annotations})
        if len(names) > 1:
            raise InputError(f"{side} differs between the annotations: {', '.join(names)}; give one model's at a time")


def _interval(annotations: Sequence[Annotation], bootstrap: Bootstrap) -> tuple[float | None, float | None]:
    import numpy as np

    known = [(one.instruction, gain) for one in annotations if (gain := model_gain(one)) is not None]
    keys = [(0, instruction) for instruction, _ in known]
    clusters = Clusters.of(keys)
    sums, counts = clusters.sums(keys, [gain for _, gain in known]), clusters.sums(keys, np.ones(len(keys)))
    (metric,) = ratio_metrics(sums[:, None], counts[:, None], clusters, bootstrap)
    if metric.low is None or metric.high is None:
        return None, None
    return 100 * metric.low, 100 * metric.high


def _mean_length(annotations: Sequence[Annotation]) -> int | None:
    lengths = [len(annotation.output_2) for annotation in annotations]
    return int(sum(lengths) / len(lengths)) if lengths else None
