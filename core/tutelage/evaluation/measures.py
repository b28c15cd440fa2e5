"""Figures of measures: the mean over the units of the prompts, the share of units with a value, and differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from tutelage.evaluation.intervals import (
    DEFAULT,
    Bootstrap,
    Clusters,
    Floats,
    Metric,
    paired_ratio,
    ratio_metrics,
)
from tutelage.evaluation.significance import Observation
from tutelage.measure import Measurement


@frozen
class SeedMeasurement:
    """The value of a measure on one prompt, for a model of one seed."""

    measurement: Measurement
    seed: int = 0

    @property
    def cluster(self) -> tuple[int, str]:
        """The prompt with its seed."""
        return self.seed, self.measurement.prompt_id

    @property
    def measured(self) -> float:
        """Number of units with a value."""
        return self.measurement.weight if self.measurement.value is not None else 0.0

    @property
    def units(self) -> float:
        """Number of all units."""
        return self.measurement.weight + self.measurement.unmeasured

    @property
    def total(self) -> float:
        """Sum of the values over the units."""
        return self.measured * (self.measurement.value or 0.0)


def measure_metrics(
    values: Iterable[SeedMeasurement], is_share: bool, bootstrap: Bootstrap = DEFAULT
) -> tuple[Metric, Metric]:
    """Compute a measure of one model, and its coverage: the share of units that have a value.

    The measure is the mean over units: of prompts, or of parts of prompts, see ``Measurement.weight``. n counts the
    units. ``is_share``: whether the values are from 0 to 1, so that the interval is that of a share.
    """
    import numpy as np

    values = list(values)
    clusters = Clusters.of(one.cluster for one in values)
    totals, measured, units = (_sums(values, clusters, part) for part in ("total", "measured", "units"))
    figure, coverage = ratio_metrics(
        np.stack([totals, measured], axis=1),
        np.stack([measured, units], axis=1),
        clusters,
        bootstrap,
        proportion=(is_share, True),
    )
    return figure, coverage


def measure_difference(
    left: Iterable[SeedMeasurement], right: Iterable[SeedMeasurement], bootstrap: Bootstrap = DEFAULT
) -> Metric:
    """Compute left minus right, paired by seed and prompt.

    Only prompts for which both models have a value with the same seed are used; n counts them.
    """
    left, right = list(left), list(right)
    clusters = Clusters.of(one.cluster for one in [*left, *right])
    one, other = (
        (_sums(side, clusters, "total")[:, None], _sums(side, clusters, "measured")[:, None]) for side in (left, right)
    )
    [metric] = paired_ratio(one, other, clusters, bootstrap).metrics([((one[1] > 0) & (other[1] > 0)).sum()], bootstrap)
    return metric


def observations(values: Iterable[SeedMeasurement]) -> Iterator[Observation]:
    """Yield the values as observations, for ``significance.compare``."""
    for one in values:
        if one.measurement.value is not None and one.measured:
            yield Observation(one.measurement.prompt_id, one.measurement.value, one.seed, one.measured)


def _sums(values: Sequence[SeedMeasurement], clusters: Clusters, part: str) -> Floats:
    return clusters.sums([one.cluster for one in values], [getattr(one, part) for one in values])
