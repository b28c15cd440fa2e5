"""Whether two models differ, how sure that is, and how many prompts it would take to tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist

from attrs import frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import DEFAULT, NOTHING, Bootstrap, Clusters, Floats, Metric, metrics, paired_ratio

POWER = 0.8
"""Chance of finding a difference that is there: Cohen's (1988) convention."""


@frozen
class Observation:
    """One measured value of one model on one prompt."""

    prompt_id: str
    value: float
    seed: int = 0


@frozen
class Separation:
    """How two models differ on the prompts that both were measured on."""

    difference: Metric
    """Mean of left minus right with its paired interval; n counts prompts (under each seed)."""
    standard_error: float | None
    """Standard deviation of the difference over the resamples."""
    p_value: float | None
    """Two-sided, by the normal approximation with that standard error."""
    prompts_needed: int | None
    """Prompts at which a difference of this size is found with 80% power; None where there is no difference."""


@frozen
class ModelComparison:
    """Two of several models; ``p_value_adjusted`` accounts for all the comparisons that were made (Holm, 1979)."""

    left: str
    right: str
    separation: Separation
    p_value_adjusted: float | None


def compare(left: Iterable[Observation], right: Iterable[Observation], bootstrap: Bootstrap = DEFAULT) -> Separation:
    """Compare two models on the prompts that both have, paired by seed and prompt.

    Several observations of one prompt are averaged. Raises ``InputError`` where a value is not finite.
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
    """Compare every two models, with p-values adjusted for the number of comparisons."""
    held = {name: list(observations) for name, observations in models.items()}
    pairs = list(combinations(held, 2))
    separations = [compare(held[left], held[right], bootstrap) for left, right in pairs]
    adjusted = holm([separation.p_value for separation in separations])
    return tuple(
        ModelComparison(left, right, separation, p_value)
        for (left, right), separation, p_value in zip(pairs, separations, adjusted, strict=True)
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for their number so that the chance of any false finding stays below the level (Holm, 1979).

    None, where nothing could be compared, stays None and does not count.
    """
    order = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[position] = largest
    return adjusted


def _means(observations: Sequence[Observation], clusters: Clusters) -> tuple[Floats, Floats]:
    """Each prompt's mean (0 where it has none) and whether it has one: shape (clusters, 1)."""
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
    """Sample size of a paired comparison (Cohen, 1988, section 2.4): ((z + z_power) x deviation / mean)^2."""
    mean = float(differences.mean())
    if abs(mean) < 1e-12 or len(differences) < 2:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
    return max(2, math.ceil((z * float(differences.std(ddof=1)) / mean) ** 2))
