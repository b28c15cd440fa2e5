"""Differences between models: size, significance, and the number of prompts needed to detect them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist

from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import DEFAULT, NOTHING, Bootstrap, Clusters, Floats, Metric, metrics, paired_ratio

POWER = 0.8
"""Probability of detecting an existing difference, by the convention of Cohen (1988)."""


@frozen
class Observation:
    """One measured value of one model on one prompt."""

    prompt_id: str
    value: float
    seed: int = 0


@frozen
class Separation:
    """The difference of two models on the prompts for which both have a value."""

    difference: Metric
    """Mean of left minus right with its paired interval. n counts prompts, once per seed."""
    standard_error: float | None
    """Standard deviation of the difference over the resamples; None if there is no common prompt."""
    p_value: float | None
    """Two-sided p-value by the normal approximation with this standard error; None if there is no common prompt."""
    prompts_needed: int | None
    """Number of prompts that detects a difference of this size with 80% power; None if there is no difference, or only
    one prompt."""


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

    Several observations of one prompt are averaged. Raises ``InputError`` if a value is not finite.
    """
    import numpy as np

    left, right = list(left), list(right)
    clusters = Clusters.of((one.seed, one.prompt_id) for one in [*left, *right])
    sides = [_means(observations, clusters) for observations in (left, right)]
    values, replicates, counts = paired_ratio(sides[0], sides[1], clusters, bootstrap)
    (difference,) = metrics(values, replicates, counts, bootstrap)
    if difference.value is None:
        return Separation(NOTHING, None, None, None)
    both = (sides[0][1] > 0) & (sides[1][1] > 0)
    error = float(np.nanstd(replicates))
    needed = _prompts_needed((sides[0][0] - sides[1][0])[both], bootstrap.confidence)
    return Separation(difference, round(error, 10), _p_value(difference.value, error), needed)


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
    """Mean of each prompt (0 without observations), and 1 if it has observations, otherwise 0: shapes (clusters, 1)."""
    import numpy as np

    for one in observations:
        if not math.isfinite(one.value):
            raise InputError(f"prompt {one.prompt_id}: {one.value} is not a finite number")
    keys = [(one.seed, one.prompt_id) for one in observations]
    sums = clusters.sums(keys, [one.value for one in observations])
    counts = clusters.sums(keys, np.ones(len(keys)))
    return (sums / np.maximum(counts, 1))[:, None], (counts > 0).astype(float)[:, None]


def _p_value(difference: float, error: float) -> float:
    if difference == 0:
        return 1.0
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else 0.0


def _prompts_needed(differences: Floats, confidence: float) -> int | None:
    """Sample size of a paired comparison (Cohen, 1988, section 2.4): ((z + z_power) * deviation / mean)^2."""
    mean = float(differences.mean())
    if abs(mean) < 1e-12 or len(differences) < 2:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
    return max(2, math.ceil((z * float(differences.std(ddof=1)) / mean) ** 2))
