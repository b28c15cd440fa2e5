"""Intervals of shares: Wilson's score interval (Wilson, 1927) at the effective number of trials.

Several answers to one prompt are not independent trials. The effective number of trials is the one whose binomial
variance is the variance between prompts (Kish, 1965, section 8.2; for Wilson's interval: Korn & Graubard, 1998,
"Confidence intervals for proportions with small expected number of positive counts"). With few prompts, or few seeds,
the variance is multiplied by the square of the ratio of the t and the normal quantile. Near 0 and 1 the variance
between prompts is often estimated as too small, because the few prompts that would show it are missing. Two prompts are
therefore added to it, one that is all 0 and one that is all 1. With them, a win rate of ties only has an interval too.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

from attrs import evolve

from tutelage.evaluation.variation import Floats, Integers, Variation, sums_by_group

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def share_ends(
    numerators: Floats, denominators: Floats, influence: Floats, seeds: Integers, prompts: Integers, confidence: float
) -> tuple[Floats, Floats]:
    """Return the ends of the intervals of sums of numerators divided by sums of denominators.

    The first three arrays have the shape (clusters, shares). ``influence``, ``seeds`` and ``prompts`` are those of
    ``Variation.of``. Returns two arrays (shares,); NaN if a denominator is 0.
    """
    import numpy as np

    totals = denominators.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = numerators.sum(axis=0) / totals
        trials = _effective_trials(numerators, denominators, influence, seeds, prompts, 1 - confidence)
    return wilson_ends(values, trials, confidence)


def wilson_ends(shares: Floats, trials: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return the ends of Wilson's intervals of shares of independent trials: arrays of one shape."""
    import numpy as np

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    square = z * z / trials
    middle = (shares + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(shares * (1 - shares) / trials + square / (4 * trials))
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def _effective_trials(
    numerators: Floats, denominators: Floats, influence: Floats, seeds: Integers, prompts: Integers, alpha: float
) -> Floats:
    import numpy as np

    totals = denominators.sum(axis=0)
    values = numerators.sum(axis=0) / totals
    variation = Variation.of(influence, denominators > 0, seeds, prompts)
    added = (values**2 + (1 - values) ** 2) / np.maximum(variation.prompts, 1) ** 2
    half = evolve(variation, within=variation.within + added).half_widths(alpha)
    trials = values * (1 - values) * (NormalDist().inv_cdf(1 - alpha / 2) / half) ** 2
    by_prompt = sums_by_group(denominators, prompts)
    independent = totals**2 / (by_prompt**2).sum(axis=0)  # Kish's number of prompts: all answers to a prompt are equal
    trials = np.where((variation.seeds > 1) & (trials > 0), trials, np.maximum(trials, independent))
    capped: Floats = np.where(_are_whole(numerators), np.minimum(trials, totals), trials)
    return capped


def _are_whole(numerators: Floats) -> NDArray[np.bool_]:
    """Whether each column counts units. Then its variance is at least that of independent trials."""
    import numpy as np

    whole: NDArray[np.bool_] = (numerators == np.round(numerators)).all(axis=0)
    return whole
