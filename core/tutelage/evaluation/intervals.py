"""Confidence intervals from a bootstrap over prompts, and over seeds if there are several.

Answers to one prompt are not independent, so the unit of resampling (the cluster) is the prompt. With several seeds,
seeds are resampled first, and then prompts within each drawn seed (a two-stage cluster bootstrap; Davison & Hinkley,
1997, section 3.8). A resample is one row of weights, the number of times each cluster was drawn. A ratio of sums over
clusters is then two matrix products for all resamples at once. The weights depend only on the number of prompts of each
seed and on the bootstrap's own seed. Two models on the same prompts are therefore resampled together, which makes their
difference a paired one, and a repeated call gives identical results.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"
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

    def shifted(self, by: float) -> Metric:
        """Return the metric with ``by`` added to its value and to both ends of its interval."""
        if self.value is None or self.low is None or self.high is None:
            return self
        return measured(self.value + by, self.low + by, self.high + by, self.n)


NOTHING = Metric(None, None, None, 0)
"""The metric of an empty set of units: no value and no interval."""


@frozen
class Bootstrap:
    """Parameters of the bootstrap."""

    resamples: int = 2000
    """Number of resamples."""
    seed: int = 0
    """Seed of the random draws."""
    confidence: float = 0.95
    """Confidence level of the intervals."""


DEFAULT = Bootstrap()
"""2,000 resamples at 95%: 50 resamples are below the 2.5th percentile, and 50 above the 97.5th."""


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

    def weights(self, bootstrap: Bootstrap) -> Floats:
        """Return the number of times each resample drew each cluster: shape (resamples, clusters), read-only."""
        sizes: dict[Hashable, int] = {}
        for seed, _ in self.keys:
            sizes[seed] = sizes.get(seed, 0) + 1
        return _weights(tuple(sizes.values()), bootstrap.resamples, bootstrap.seed)


@lru_cache(maxsize=4)
def _weights(sizes: tuple[int, ...], resamples: int, seed: int) -> Floats:
    """Draw seeds, then prompts within each drawn seed, as counts; ``sizes`` has the number of prompts of each seed."""
    import numpy as np

    if not sizes:
        return np.zeros((resamples, 0))
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=resamples)
    blocks = [_draws(generator, drawn[:, number] * size, size) for number, size in enumerate(sizes)]
    weights = np.concatenate(blocks, axis=1)
    weights.setflags(write=False)
    return weights


def _draws(generator: np.random.Generator, totals: Integers, size: int) -> Floats:
    """Draw with replacement: row r counts how often each of ``size`` prompts came up in ``totals[r]`` draws."""
    import numpy as np

    rows = np.repeat(np.arange(len(totals)), totals)
    cells = rows * size + generator.integers(0, size, size=len(rows))
    return np.bincount(cells, minlength=len(totals) * size).reshape(len(totals), size).astype(float)


def ratio(numerators: Floats, denominators: Floats, clusters: Clusters, bootstrap: Bootstrap) -> tuple[Floats, Floats]:
    """Compute ratios of sums over clusters, and the same ratios in every resample.

    Both arrays have the shape (clusters, ratios). Returns the ratios, shape (ratios,), and their replicates, shape
    (resamples, ratios). A ratio with a denominator of 0 is NaN.
    """
    import numpy as np

    weights = clusters.weights(bootstrap)
    count = numerators.shape[1]
    sums = weights @ np.concatenate([numerators, denominators], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = numerators.sum(axis=0) / denominators.sum(axis=0)
        replicates = sums[:, :count] / sums[:, count:]
    return _nan_for_infinite(values), _nan_for_infinite(replicates)


def metrics(values: Floats, replicates: Floats, counts: Sequence[int] | Integers, bootstrap: Bootstrap) -> list[Metric]:
    """Make metrics with percentile intervals from values (ratios,), replicates (resamples, ratios) and counts
    (ratios,).

    Resamples in which a ratio is undefined (NaN) are left out of its interval. A value of NaN gives ``NOTHING``.
    """
    import numpy as np

    if not len(values):
        return []
    tail = (1 - bootstrap.confidence) / 2
    never_defined = np.isnan(replicates).all(axis=0)
    defined = np.where(never_defined, np.nan_to_num(values), replicates)
    low, high = _quantiles(defined, (tail, 1 - tail))
    return [
        NOTHING if math.isnan(value) else measured(value, lower, upper, int(n))
        for value, lower, upper, n in zip(values.tolist(), low.tolist(), high.tolist(), counts, strict=True)
    ]


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
    that is a share. A share gets Wilson's interval in two cases: if every cluster is one independent trial, because the
    coverage of a percentile interval is too low near 0 and 1; and if the share is exactly 0 or 1, because every
    resample has the same share and the bootstrap interval has no width.
    """
    values, replicates = ratio(numerators, denominators, clusters, bootstrap)
    bootstrapped = metrics(values, replicates, denominators.sum(axis=0).round().astype(int), bootstrap)
    shares = [proportion] * len(bootstrapped) if isinstance(proportion, bool) else proportion
    trials = _are_trials(numerators, denominators, clusters)
    involved = (denominators > 0).sum(axis=0).tolist()
    return [
        _with_wilson_interval(metric, count, bootstrap) if share and (trial or metric.value in (0.0, 1.0)) else metric
        for metric, share, trial, count in zip(bootstrapped, shares, trials, involved, strict=True)
    ]


def paired_ratio(
    left: tuple[Floats, Floats], right: tuple[Floats, Floats], clusters: Clusters, bootstrap: Bootstrap
) -> tuple[Floats, Floats, Integers]:
    """Compute paired differences of ratios, left minus right, over the clusters in which both denominators are
    positive.

    Each side is (numerators, denominators), both of the shape (clusters, ratios). Returns the differences (ratios,),
    their replicates (resamples, ratios), and the number of clusters of each difference (ratios,).
    """
    import numpy as np

    both = (left[1] > 0) & (right[1] > 0)
    numerators, denominators = (np.concatenate([left[part] * both, right[part] * both], axis=1) for part in (0, 1))
    values, replicates = ratio(numerators, denominators, clusters, bootstrap)
    count = both.shape[1]
    return values[:count] - values[count:], replicates[:, :count] - replicates[:, count:], both.sum(axis=0)


def wilson(successes: float, n: int, confidence: float = 0.95) -> Metric:
    """Return the share of successes in n independent trials with Wilson's score interval (Wilson, 1927)."""
    if n == 0:
        return NOTHING
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = successes / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return measured(share, max(0.0, middle - half), min(1.0, middle + half), n)


def measured(value: float, low: float, high: float, n: int) -> Metric:
    """Make a metric rounded to ten decimals.

    Further decimals depend on the order in which a machine adds, and would make ``summary.json`` differ.
    """
    return Metric(_rounded(value), _rounded(low), _rounded(high), n)


def _rounded(value: float) -> float:
    return round(value, 10) + 0.0  # turns -0.0 into 0.0


def _nan_for_infinite(values: Floats) -> Floats:
    import numpy as np

    return np.where(np.isfinite(values), values, np.nan)


def _quantiles(replicates: Floats, shares: tuple[float, float]) -> Floats:
    """Quantiles of each column, without NaN. ``nanquantile`` is slow and is used only if there is a NaN."""
    import numpy as np

    return (
        np.nanquantile(replicates, shares, axis=0)
        if np.isnan(replicates).any()
        else np.quantile(replicates, shares, axis=0)
    )


def _are_trials(numerators: Floats, denominators: Floats, clusters: Clusters) -> list[bool]:
    """Whether each column has at most one unit per cluster, with a numerator of 0 or 1, and there is one seed."""
    import numpy as np

    if len({seed for seed, _ in clusters.keys}) > 1:
        return [False] * numerators.shape[1]
    whole = np.isin(numerators, (0.0, 1.0)) & np.isin(denominators, (0.0, 1.0))
    return [bool(column) for column in np.logical_and.reduce(whole, axis=0)]


def _with_wilson_interval(metric: Metric, clusters: int, bootstrap: Bootstrap) -> Metric:
    if metric.value is None:
        return metric
    bounds = wilson(metric.value * clusters, clusters, bootstrap.confidence)
    return Metric(metric.value, bounds.low, bounds.high, metric.n)
