"""Differences between models: size, significance, and the number of prompts needed to detect them.

With one seed, the p-value is that of the sign-flip permutation test, see ``intervals``. If both models have the same
distribution, at most 5% of the p-values are below 0.05, at every number of prompts. No p-value of fewer than 6 prompts
can be below 0.05. With several seeds, it is that of the interval over seeds and prompts, see ``variation``. A p-value
is below 0.05 if and only if the 95% interval does not contain 0. If the difference is the same on every prompt, there
is neither: how much it would vary is not known.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import (
    DEFAULT,
    NO_SPREAD,
    NOTHING,
    Bootstrap,
    Clusters,
    Floats,
    Metric,
    paired_ratio,
    ratios,
)
from tutelage.evaluation.variation import Variation

POWER = 0.8
"""Probability of detecting an existing difference, by the convention of Cohen (1988)."""
_MOST_PROMPTS = 10**12
"""If this number of prompts is not enough, no number is."""


@frozen
class Observation:
    """One measured value of one model on one prompt."""

    prompt_id: str
    value: float
    seed: int = 0
    weight: float = 1.0
    """Number of units that the value is the mean of; above 0."""


@frozen
class Separation:
    """The difference of two models on the prompts for which both have a value."""

    difference: Metric
    """Mean of left minus right with its paired interval. n counts prompts, once per seed."""
    standard_error: float | None
    """Standard error of the difference, with the variation of the seeds if there are several; None if it is not
    known."""
    p_value: float | None
    """Two-sided p-value, see the docstring of the module; None if it is not known."""
    prompts_needed: int | None
    """Number of prompts, once per seed, that detects a difference of this size with 80% power, with the same number of
    seeds; None if there is no difference, if it is not known, or if no number of prompts is enough, because the seeds
    vary too much."""
    seeds: int = 1
    """Number of seeds that the difference is based on."""


@frozen
class ModelComparison:
    """The difference of two of several models."""

    left: str
    right: str
    separation: Separation
    p_value_adjusted: float | None
    """p-value adjusted for the number of comparisons (Holm, 1979)."""


def compare(left: Iterable[Observation], right: Iterable[Observation], bootstrap: Bootstrap = DEFAULT) -> Separation:
    """Compare two models on their common prompts, paired by seed and prompt.

    Several observations of one prompt are averaged; a prompt counts as much as the mean of their weights. Raises
    ``InputError`` if a value is not finite.
    """
    import numpy as np

    left, right = list(left), list(right)
    clusters = Clusters.of((one.seed, one.prompt_id) for one in [*left, *right])
    sides = [_means(observations, clusters) for observations in (left, right)]
    both = ((sides[0][1] > 0) & (sides[1][1] > 0))[:, 0]
    count = int(both.sum())
    estimates = paired_ratio(sides[0], sides[1], clusters, bootstrap)
    (difference,) = estimates.metrics([count], bootstrap)
    if difference.value is None:
        return Separation(NOTHING, None, None, None)
    (_, left_influence), (_, right_influence) = (ratios(*(part[both] for part in side)) for side in sides)
    influence = left_influence - right_influence
    variation = Variation.of(influence, np.ones_like(influence, bool), clusters.seeds[both], clusters.prompts[both])
    seeds = int(variation.seeds[0])
    is_unknown = count == 1 or difference.no_interval == NO_SPREAD
    p_value, error = (None, None) if is_unknown else (estimates.p_value(0), _error(variation))
    return Separation(difference, error, p_value, _prompts_needed(difference.value, variation, count, bootstrap), seeds)


def compare_all(
    models: Mapping[str, Iterable[Observation]], bootstrap: Bootstrap = DEFAULT
) -> tuple[ModelComparison, ...]:
    """Compare every two models, with p-values adjusted for the number of comparisons.

    ``models`` maps names to observations. Two models without a common seed are paired by prompt alone, see
    ``pairable``. Raises ``InputError`` if a value is not finite.
    """
    by_model = {name: list(observations) for name, observations in models.items()}
    pairs = list(combinations(by_model, 2))
    separations = [compare(*pairable(by_model[left], by_model[right]), bootstrap) for left, right in pairs]
    adjusted = holm([separation.p_value for separation in separations])
    return tuple(
        ModelComparison(left, right, separation, p_value)
        for (left, right), separation, p_value in zip(pairs, separations, adjusted, strict=True)
    )


def pairable(
    left: Sequence[Observation], right: Sequence[Observation]
) -> tuple[Sequence[Observation], Sequence[Observation]]:
    """Return the observations of two models so that they can be paired.

    If the models have no seed in common, the seeds are removed: the pairs are then those of prompts, and the values of
    several seeds are averaged.
    """
    if {one.seed for one in left} & {one.seed for one in right}:
        return left, right
    return [evolve(one, seed=0) for one in left], [evolve(one, seed=0) for one in right]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for multiple comparisons (Holm, 1979), which controls the family-wise error rate.

    The result has the order of the input. None (no comparison) stays None and does not count as a comparison.
    """
    order = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[position] = largest
    return adjusted


def _means(observations: Sequence[Observation], clusters: Clusters) -> tuple[Floats, Floats]:
    """Mean of each prompt times its weight, and its weight (0 without observations): shapes (clusters, 1)."""
    import numpy as np

    for one in observations:
        if not math.isfinite(one.value):
            raise InputError(f"prompt {one.prompt_id}: {one.value} is not a finite number")
    keys = [(one.seed, one.prompt_id) for one in observations]
    counts = np.maximum(clusters.sums(keys, np.ones(len(keys))), 1)
    sums = clusters.sums(keys, [one.weight * one.value for one in observations])
    weights = clusters.sums(keys, [one.weight for one in observations])
    return (sums / counts)[:, None], (weights / counts)[:, None]


def _error(variation: Variation) -> float:
    """The standard error of the only statistic."""
    over_seeds = float((variation.between + variation.shared)[0])
    return round(math.sqrt(max(over_seeds, float(variation.within[0]))), 10)


def _prompts_needed(difference: float, variation: Variation, count: int, bootstrap: Bootstrap) -> int | None:
    """The smallest number of prompts at which the difference is the sum of the t quantiles of the confidence and of the
    power (Cohen, 1988, section 2.4, with t in place of z), times the standard error.

    The variance of prompts decreases with their number. The variance of seeds does not: it is the part of the variance
    between the means of the seeds that the prompts do not explain.
    """
    from scipy.special import stdtrit

    of_prompts = float(variation.within[0]) * count
    seeds = int(variation.seeds[0])
    of_seeds = max(0.0, float((variation.between + variation.shared - variation.within)[0])) if seeds > 1 else 0.0
    if abs(difference) < 1e-12 or of_prompts <= 0:
        return None

    def is_enough(number: int) -> bool:
        free = seeds - 1 if seeds > 1 else number - 1
        quantiles = float(stdtrit(free, (1 + bootstrap.confidence) / 2) + stdtrit(free, POWER))
        return quantiles**2 * (of_prompts / number + of_seeds) <= difference**2

    fewest = max(bootstrap.fewest, seeds)
    if not is_enough(_MOST_PROMPTS):
        return None
    return bisect_left(range(_MOST_PROMPTS), True, lo=fewest, key=is_enough)
