"""Confidence intervals over prompts, and over seeds if there are several.

Answers to one prompt are not independent, so the unit (the cluster) is the prompt.

- One seed: a mean or a difference has the interval of random subsets of the prompts (Hartigan, 1969, "Using subsample
  values as typical values"; the "double-or-nothing" bootstrap of Owen & Eckles, 2012, section 3). Each
  subset is equally likely. For independent values that are distributed symmetrically around their centre, the means of
  the subsets divide the line into intervals that contain the centre equally often. The coverage is therefore at least
  95% at every number of prompts, and the p-value of a difference is that of the sign-flip permutation test. With fewer
  than 6 prompts, all subsets together contain the centre in less than 95% of the cases, and there is no interval.
- Several seeds: the variances of seeds and of prompts are combined with t quantiles, see ``variation``.
- Shares have Wilson's interval at the effective number of trials, see ``shares``.

A subset is one row of weights, 0 or 1 for each cluster. A ratio of sums over clusters is then two matrix products for
all subsets at once. The weights depend only on the prompts and on the bootstrap's own seed: two models on the same
prompts have the same subsets, which makes their difference a paired one, and a repeated call gives identical results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

from tutelage.evaluation.shares import share_ends, wilson_ends
from tutelage.evaluation.variation import NO_WIDTH, Variation
from tutelage.evaluation.variation import Floats as Floats
from tutelage.evaluation.variation import Integers as Integers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Cluster: TypeAlias = tuple[int, str]
"""A prompt with a seed: (seed, prompt id)."""


@frozen
class Metric:
    """A measured value with its confidence interval. ``attrs.asdict`` gives its form in ``summary.json``."""

    value: float | None
    """None if there was nothing to measure (n is 0)."""
    low: float | None
    """Lower end of the interval."""
    high: float | None
    """Upper end of the interval."""
    n: int
    """Number of units (answers, pairs or prompts, depending on the metric) from which the value was computed."""
    no_interval: str = ""
    """Why a value has no interval (``low`` and ``high`` are None). Only written if it is not empty."""

    def shifted(self, by: float) -> Metric:
        """Return the metric with ``by`` added to its value and to both ends of its interval."""
        value, low, high = (None if end is None else _rounded(end + by) for end in (self.value, self.low, self.high))
        return Metric(value, low, high, self.n, self.no_interval)


NOTHING = Metric(None, None, None, 0)
"""The metric of an empty set of units: no value and no interval."""


@frozen
class Bootstrap:
    """Parameters of the bootstrap."""

    resamples: int = 2000
    """Number of random subsets. If there are not more subsets than that (up to 10 prompts), each is used once."""
    seed: int = 0
    """Seed of the random draws."""
    confidence: float = 0.95
    """Confidence level of the intervals."""

    @property
    def fewest(self) -> int:
        """Smallest number of prompts with an interval: 6 at 95%, because 2 / 2^6 is the first value below 5%."""
        return math.ceil(1 - math.log2(1 - self.confidence))


DEFAULT = Bootstrap()
"""2,000 subsets at 95%."""
NO_SPREAD = "it is the same on all prompts"
"""The reason for a missing interval of a value that does not vary."""


@frozen
class Clusters:
    """The distinct clusters of some records, sorted, so that results do not depend on the order of the records."""

    keys: tuple[Cluster, ...]
    index: Mapping[Cluster, int] = field(init=False, eq=False, repr=False)
    """Index of each cluster in arrays with one row or element per cluster."""

    @index.default
    def _positions(self) -> dict[Cluster, int]:
        return {key: position for position, key in enumerate(self.keys)}

    @classmethod
    def of(cls, keys: Iterable[Cluster]) -> Clusters:
        """Make the clusters from the keys of records; duplicates are dropped."""
        return cls(tuple(sorted(set(keys))))

    def sums(self, keys: Sequence[Cluster], values: Sequence[float] | Floats) -> Floats:
        """Sum values by cluster: ``keys`` and ``values`` of length (values,) to an array (clusters,)."""
        import numpy as np

        positions = [self.index[key] for key in keys]
        return np.bincount(positions, weights=np.asarray(values, float), minlength=len(self.keys)).astype(float)

    def rows(self, positions: Integers, values: Floats) -> Floats:
        """Arrange values in one row per cluster, padded with NaN.

        ``positions`` has the index of each value's cluster. Shapes: (values,) and (values,) to (clusters, most values
        in a cluster).
        """
        import numpy as np

        order = np.argsort(positions, kind="stable")
        sorted_positions = positions[order]
        place = np.arange(len(order)) - np.searchsorted(sorted_positions, sorted_positions)
        rows = np.full((len(self.keys), int(place.max(initial=0)) + 1), np.nan)
        rows[sorted_positions, place] = values[order]
        return rows

    @cached_property
    def prompts(self) -> Integers:
        """The number of each cluster's prompt, equal for the clusters of one prompt: shape (clusters,)."""
        import numpy as np

        return np.unique([prompt for _, prompt in self.keys], return_inverse=True)[1].reshape(-1)

    @cached_property
    def seeds(self) -> Integers:
        """The number of each cluster's seed: shape (clusters,)."""
        import numpy as np

        return np.unique([seed for seed, _ in self.keys], return_inverse=True)[1].reshape(-1)

    @cached_property
    def is_of_one_seed(self) -> bool:
        """Whether all clusters have the same seed."""
        return len({seed for seed, _ in self.keys}) < 2

    def weights(self, bootstrap: Bootstrap) -> Floats:
        """Return 1 for each cluster whose prompt is in a subset, else 0: shape (subsets, clusters)."""
        prompts = self.prompts
        subsets = _subsets(int(prompts.max(initial=-1)) + 1, bootstrap.resamples, bootstrap.seed)
        return (
            subsets if len(prompts) == subsets.shape[1] and (prompts[1:] > prompts[:-1]).all() else subsets[:, prompts]
        )


@lru_cache(maxsize=4)
def _subsets(prompts: int, number: int, seed: int) -> Floats:
    """All non-empty subsets if there are at most ``number``, otherwise random ones: shape (subsets, prompts)."""
    import numpy as np

    if 2**prompts - 1 <= number:
        subsets = (np.arange(1, 2**prompts)[:, None] >> np.arange(prompts) & 1).astype(float)
    else:
        subsets = np.random.default_rng(seed).integers(0, 2, size=(number, prompts)).astype(float)
    subsets.setflags(write=False)
    return subsets


@frozen
class Estimates:
    """Statistics of the same clusters, and how they vary: arrays with one column per statistic."""

    values: Floats = field(eq=False)
    """NaN if a statistic is not defined: shape (statistics,)."""
    prompts: Integers = field(eq=False)
    """Number of distinct prompts of each statistic: shape (statistics,)."""
    replicates: Floats | None = field(eq=False, default=None)
    """The statistics of each subset of the prompts, NaN if not defined: shape (subsets, statistics)."""
    variation: Variation | None = field(eq=False, default=None)
    """The variances of seeds and prompts, if there are several seeds."""

    def metrics(self, counts: Sequence[int] | Integers, bootstrap: Bootstrap) -> list[Metric]:
        """Make metrics with intervals; ``counts`` has the units of each statistic: shape (statistics,).

        A value of NaN gives ``NOTHING``. A value without variation, and one of too few prompts, have no interval. If
        there are both replicates and variation, the interval contains the intervals of both.
        """
        import numpy as np

        if not len(self.values):
            return []
        low, high = np.full((2, len(self.values)), np.nan)
        if self.replicates is not None:
            low, high = _typical_ends(self.replicates, bootstrap.confidence)
            low, high = (np.where(self.prompts >= bootstrap.fewest, end, np.nan) for end in (low, high))
        if self.variation is not None:
            half = self.variation.half_widths(1 - bootstrap.confidence)
            low, high = np.fmin(low, self.values - half), np.fmax(high, self.values + half)
        return [
            _metric(value, lower, upper, int(n), int(prompts), bootstrap)
            for value, lower, upper, n, prompts in zip(
                self.values.tolist(), low.tolist(), high.tolist(), counts, self.prompts, strict=True
            )
        ]

    def p_value(self, column: int) -> float | None:
        """Return the two-sided p-value of a statistic for the hypothesis that it is 0.

        It is below 0.05 if and only if the 95% interval does not contain 0. None if the statistic does not vary.
        """
        import numpy as np
        from scipy.special import stdtr

        value = float(self.values[column])
        if self.variation is not None:
            return self.variation.p_value(value, column)
        assert self.replicates is not None
        replicates = self.replicates[:, column]
        defined = replicates[~np.isnan(replicates)]
        if math.isnan(value) or not len(defined) or np.ptp(defined) < NO_WIDTH * max(1.0, abs(value)):
            return None
        beyond = min(int((defined <= NO_WIDTH).sum()), int((defined >= -NO_WIDTH).sum()))
        beyond += len(replicates) - len(defined)  # the empty subset is on both sides of 0
        p_value = min(1.0, 2 * (beyond + 1) / (len(replicates) + 1))
        if beyond or math.log2(len(replicates) + 1) >= self.prompts[column]:
            return p_value
        # All random subsets are on one side of 0. The tail of Student's t gives p-values below their resolution.
        t = value / defined.std()
        return min(p_value, 2 * float(stdtr(self.prompts[column] - 1, -abs(t))))


def _metric(value: float, low: float, high: float, n: int, prompts: int, bootstrap: Bootstrap) -> Metric:
    if math.isnan(value):
        return NOTHING
    if math.isnan(low) or high - low < NO_WIDTH * max(1.0, abs(value)):
        few = prompts < bootstrap.fewest
        reason = f"there are fewer than {bootstrap.fewest} prompts"
        return Metric(_rounded(value), None, None, n, reason if few else NO_SPREAD)
    return measured(value, low, high, n)


def ratio(numerators: Floats, denominators: Floats, clusters: Clusters, bootstrap: Bootstrap) -> Estimates:
    """Estimate ratios of sums over clusters. Both arrays have the shape (clusters, ratios).

    A ratio with a denominator of 0 is NaN.
    """
    values, influence = ratios(numerators, denominators)
    involved = denominators > 0
    if clusters.is_of_one_seed:
        replicates = _divided(*_both(clusters.weights(bootstrap), numerators, denominators))
        return Estimates(values, involved.sum(axis=0), replicates)
    return of_several_seeds(values, influence, involved, clusters)


def of_several_seeds(values: Floats, influence: Floats, involved: NDArray[np.bool_], clusters: Clusters) -> Estimates:
    """Make estimates over seeds and prompts from the influence of each cluster, see ``Variation.of``."""
    variation = Variation.of(influence, involved, clusters.seeds, clusters.prompts)
    return Estimates(values, variation.prompts, variation=variation)


def ratio_metrics(
    numerators: Floats,
    denominators: Floats,
    clusters: Clusters,
    bootstrap: Bootstrap,
    *,
    proportion: bool | Sequence[bool] = False,
) -> list[Metric]:
    """Compute a metric for each column: sum of numerators divided by sum of denominators. n is the latter sum.

    Both arrays have the shape (clusters, columns). ``proportion`` (one value, or one per column) is true for a column
    that is a share, see ``shares``.
    """
    import numpy as np

    count = numerators.shape[1]
    is_share = np.broadcast_to(np.asarray(proportion, bool), (count,))
    found: dict[int, Metric] = {}
    for columns, make in ((~is_share, _mean_metrics), (is_share, _share_metrics)):
        if columns.any():
            made = make(numerators[:, columns], denominators[:, columns], clusters, bootstrap)
            found |= dict(zip(np.flatnonzero(columns).tolist(), made, strict=True))
    return [found[column] for column in range(count)]


def _mean_metrics(numerators: Floats, denominators: Floats, clusters: Clusters, bootstrap: Bootstrap) -> list[Metric]:
    counts = denominators.sum(axis=0).round().astype(int)
    return ratio(numerators, denominators, clusters, bootstrap).metrics(counts, bootstrap)


def _share_metrics(numerators: Floats, denominators: Floats, clusters: Clusters, bootstrap: Bootstrap) -> list[Metric]:
    values, influence = ratios(numerators, denominators)
    ends = share_ends(numerators, denominators, influence, clusters.seeds, clusters.prompts, bootstrap.confidence)
    counts = denominators.sum(axis=0).round().astype(int)
    return [
        NOTHING if math.isnan(value) else measured(value, low, high, n)
        for value, low, high, n in zip(values.tolist(), *(end.tolist() for end in ends), counts.tolist(), strict=True)
    ]


def wilson(successes: float, n: int, confidence: float = 0.95) -> Metric:
    """Return the share of successes in n independent trials with Wilson's score interval (Wilson, 1927)."""
    import numpy as np

    if n == 0:
        return NOTHING
    low, high = wilson_ends(np.array(successes / n), np.array(float(n)), confidence)
    return measured(successes / n, float(low), float(high), n)


def paired_ratio(
    left: tuple[Floats, Floats], right: tuple[Floats, Floats], clusters: Clusters, bootstrap: Bootstrap
) -> Estimates:
    """Estimate paired differences of ratios, left minus right, over the clusters in which both denominators are
    positive.

    Each side is (numerators, denominators), both of the shape (clusters, ratios).
    """
    both = (left[1] > 0) & (right[1] > 0)
    sides = [(numerators * both, denominators * both) for numerators, denominators in (left, right)]
    (one, influence), (other, its_influence) = (ratios(*side) for side in sides)
    if clusters.is_of_one_seed:
        weights = clusters.weights(bootstrap)
        replicates = [_divided(*_both(weights, *side)) for side in sides]
        return Estimates(one - other, both.sum(axis=0), replicates[0] - replicates[1])
    return of_several_seeds(one - other, influence - its_influence, both, clusters)


def measured(value: float, low: float, high: float, n: int) -> Metric:
    """Make a metric rounded to ten decimals.

    Further decimals depend on the order in which a machine adds, and would make ``summary.json`` differ.
    """
    return Metric(_rounded(value), _rounded(low), _rounded(high), n)


def _rounded(value: float) -> float:
    return round(value, 10) + 0.0  # turns -0.0 into 0.0


def _both(weights: Floats, numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    import numpy as np

    sums = weights @ np.concatenate([numerators, denominators], axis=1)
    return sums[:, : numerators.shape[1]], sums[:, numerators.shape[1] :]


def ratios(numerators: Floats, denominators: Floats) -> tuple[Floats, Floats]:
    """Return ratios of sums, and the influence of each cluster on them (0 for a ratio that is not defined).

    Both arrays have the shape (clusters, ratios).
    """
    import numpy as np

    totals = denominators.sum(axis=0)
    values = _divided(numerators.sum(axis=0), totals)
    return values, np.nan_to_num(_divided(numerators - values * denominators, totals + 0 * denominators))


def _divided(numerators: Floats, denominators: Floats) -> Floats:
    """The ratio; NaN for a denominator of 0."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        found = numerators / denominators
    return np.where(np.isfinite(found), found, np.nan)


def _typical_ends(replicates: Floats, confidence: float) -> Iterable[Floats]:
    """The ends of the interval of each column: the k-th smallest and the k-th largest value of the subsets.

    With the values of v subsets, k is the whole part of (1 - confidence) / 2 * (v + 1), less the number of subsets
    without a value: empty ones are on both sides of every number. The ends are NaN if k is less than 1.
    """
    import numpy as np

    if not len(replicates):
        return np.full((2, replicates.shape[1]), np.nan)
    defined = (~np.isnan(replicates)).sum(axis=0)
    k = math.floor((1 - confidence) / 2 * (len(replicates) + 1) + 1e-9) - (len(replicates) - defined)
    ordered = np.sort(replicates, axis=0)  # NaN last
    columns = np.arange(replicates.shape[1])
    ends = (ordered[rows.clip(0, len(ordered) - 1), columns] for rows in (k - 1, defined - k))
    return [np.where(k > 0, end, np.nan) for end in ends]
