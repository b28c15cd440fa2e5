"""Intervals: a bootstrap over prompts, and over seeds where there are several.

Answers to one prompt are not independent, so the prompt is what is resampled (a cluster); with several seeds, seeds are
resampled first and prompts within each of them (a two-stage cluster bootstrap; Davison & Hinkley, 1997, section 3.8).
A resample is one row of weights, how often each cluster was drawn, so a ratio of sums over clusters is two matrix
products for all resamples at once. The weights follow from the sizes and the seed alone: two models on the same prompts
are resampled together, which is what makes their difference a paired one, and a repeated call gives the same bytes.
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
"""One prompt under one seed: (seed, prompt id)."""


@frozen
class Metric:
    """A measured value with its interval. ``attrs.asdict`` gives the form that ``summary.json`` holds."""

    value: float | None
    """None where there was nothing to measure (n is 0)."""
    low: float | None
    high: float | None
    n: int
    """How many units (answers, pairs, prompts: the metric says which) the value rests on."""

    def shifted(self, by: float) -> Metric:
        """The same measure counted from another zero."""
        if self.value is None or self.low is None or self.high is None:
            return self
        return measured(self.value + by, self.low + by, self.high + by, self.n)


NOTHING = Metric(None, None, None, 0)
"""What every measure of nothing is."""


@frozen
class Bootstrap:
    """How intervals are made."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95


DEFAULT = Bootstrap()
"""2,000 resamples and 95%: a percentile of 2.5 then rests on 50 of them."""


@frozen
class Clusters:
    """The distinct clusters of some records in sorted order, so that the records' own order changes nothing."""

    keys: tuple[Cluster, ...]
    index: Mapping[Cluster, int] = field(init=False, eq=False, repr=False)
    """Where each cluster stands in every per-cluster array."""

    @index.default
    def _positions(self) -> dict[Cluster, int]:
        return {key: position for position, key in enumerate(self.keys)}

    @classmethod
    def of(cls, keys: Iterable[Cluster]) -> Clusters:
        """The clusters among ``keys``, each once."""
        return cls(tuple(sorted(set(keys))))

    def sums(self, keys: Sequence[Cluster], values: Sequence[float] | Floats) -> Floats:
        """Sum of the values of each cluster: shape (clusters,)."""
        import numpy as np

        positions = [self.index[key] for key in keys]
        return np.bincount(positions, weights=np.asarray(values, float), minlength=len(self.keys)).astype(float)

    def rows(self, positions: Integers, values: Floats) -> Floats:
        """Values side by side, a row for each cluster, NaN where a row is shorter than the longest.

        ``positions`` says which cluster each value belongs to. Shapes (values,) and (values,) to (clusters, longest).
        """
        import numpy as np

        order = np.argsort(positions, kind="stable")
        sorted_positions = positions[order]
        place = np.arange(len(order)) - np.searchsorted(sorted_positions, sorted_positions)
        rows = np.full((len(self.keys), int(place.max(initial=0)) + 1), np.nan)
        rows[sorted_positions, place] = values[order]
        return rows

    def weights(self, bootstrap: Bootstrap) -> Floats:
        """How often each resample drew each cluster: shape (resamples, clusters), read-only."""
        sizes: dict[Hashable, int] = {}
        for seed, _ in self.keys:
            sizes[seed] = sizes.get(seed, 0) + 1
        return _weights(tuple(sizes.values()), bootstrap.resamples, bootstrap.seed)


@lru_cache(maxsize=4)
def _weights(sizes: tuple[int, ...], resamples: int, seed: int) -> Floats:
    """Draws of seeds, then of prompts within each drawn seed, as counts; ``sizes`` are the prompts of each seed."""
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
    """Row r: how often each of ``size`` prompts came up in ``totals[r]`` draws with replacement."""
    import numpy as np

    rows = np.repeat(np.arange(len(totals)), totals)
    cells = rows * size + generator.integers(0, size, size=len(rows))
    return np.bincount(cells, minlength=len(totals) * size).reshape(len(totals), size).astype(float)


def ratio(numerators: Floats, denominators: Floats, clusters: Clusters, bootstrap: Bootstrap) -> tuple[Floats, Floats]:
    """Ratios of sums over clusters, and the same ratios in every resample.

    Both arrays have the shape (clusters, ratios). Gives the ratios (ratios,) and their replicates (resamples, ratios);
    NaN where a denominator is 0.
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
    """Values with their percentile intervals: shapes (ratios,), (resamples, ratios) and (ratios,).

    Resamples in which a ratio is undefined are left out of its interval.
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
    """A metric for each column: sum of numerators over sum of denominators, n being the latter.

    Where ``proportion`` (of all columns, or of each) is true, the column is a share, and gets Wilson's interval where
    that is the better one: where every cluster is one independent trial (a percentile interval covers too little near
    0 and 1), and at exactly 0 or 1, where every resample repeats the share and the bootstrap's interval has no width.
    """
    values, replicates = ratio(numerators, denominators, clusters, bootstrap)
    made = metrics(values, replicates, denominators.sum(axis=0).round().astype(int), bootstrap)
    shares = [proportion] * len(made) if isinstance(proportion, bool) else proportion
    trials = _are_trials(numerators, denominators, clusters)
    involved = (denominators > 0).sum(axis=0).tolist()
    return [
        _by_wilson(metric, count, bootstrap) if share and (trial or metric.value in (0.0, 1.0)) else metric
        for metric, share, trial, count in zip(made, shares, trials, involved, strict=True)
    ]


def paired_ratio(
    left: tuple[Floats, Floats], right: tuple[Floats, Floats], clusters: Clusters, bootstrap: Bootstrap
) -> tuple[Floats, Floats, Integers]:
    """Differences of ratios, left minus right, over the clusters in which both have a part.

    Each side is (numerators, denominators) of the shape (clusters, ratios). Gives the differences, their replicates as
    ``ratio`` does, and on how many clusters each rests.
    """
    import numpy as np

    both = (left[1] > 0) & (right[1] > 0)
    numerators, denominators = (np.concatenate([left[part] * both, right[part] * both], axis=1) for part in (0, 1))
    values, replicates = ratio(numerators, denominators, clusters, bootstrap)
    count = both.shape[1]
    return values[:count] - values[count:], replicates[:, :count] - replicates[:, count:], both.sum(axis=0)


def wilson(successes: float, n: int, confidence: float = 0.95) -> Metric:
    """A share of independent trials with Wilson's score interval (Wilson, 1927)."""
    if n == 0:
        return NOTHING
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, square = successes / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return measured(share, max(0.0, middle - half), min(1.0, middle + half), n)


def measured(value: float, low: float, high: float, n: int) -> Metric:
    """A metric in ten decimals: beyond them, the order in which a machine adds would show in ``summary.json``."""
    return Metric(_rounded(value), _rounded(low), _rounded(high), n)


def _rounded(value: float) -> float:
    return round(value, 10) + 0.0  # no minus zero


def _nan_for_infinite(values: Floats) -> Floats:
    import numpy as np

    return np.where(np.isfinite(values), values, np.nan)


def _quantiles(replicates: Floats, shares: tuple[float, float]) -> Floats:
    """Quantiles of each column; the slow way that skips NaN only where there is any."""
    import numpy as np

    return (
        np.nanquantile(replicates, shares, axis=0)
        if np.isnan(replicates).any()
        else np.quantile(replicates, shares, axis=0)
    )


def _are_trials(numerators: Floats, denominators: Floats, clusters: Clusters) -> list[bool]:
    """Whether each column has at most one unit a cluster, hit or missed whole, under one seed."""
    import numpy as np

    if len({seed for seed, _ in clusters.keys}) > 1:
        return [False] * numerators.shape[1]
    whole = np.isin(numerators, (0.0, 1.0)) & np.isin(denominators, (0.0, 1.0))
    return [bool(column) for column in np.logical_and.reduce(whole, axis=0)]


def _by_wilson(metric: Metric, clusters: int, bootstrap: Bootstrap) -> Metric:
    if metric.value is None:
        return metric
    bounds = wilson(metric.value * clusters, clusters, bootstrap.confidence)
    return Metric(metric.value, bounds.low, bounds.high, metric.n)
