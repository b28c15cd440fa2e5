"""How much a statistic varies between seeds and between prompts: its interval if a run has several seeds.

The value of a seed and a prompt is taken as a sum of a deviation of the seed, one of the prompt and a residual. Seeds
can share their prompts (crossed) or have prompts of their own (nested). The variance of the mean is the sum of two
parts (the variance of two-way clustered data; Cameron, Gelbach & Miller, 2011, section 2):

- ``between``: the variance of the means of the seeds, divided by the number of seeds. It contains the residuals, and
  the prompts that seeds do not share. It is known with one degree of freedom less than there are seeds.
- ``shared``: the covariance of the seeds on the prompts that they share, which does not differ between the seeds.

Each part has its own quantile of the t distribution: the half-width is the root of the sum of (quantile^2 * part)
(Banerjee, 1960, "Approximate confidence interval for linear functions of means of k populations"). This is exact if one
part is 0, and has a higher coverage than stated otherwise. The two seeds of a small run can agree by chance. The
half-width is therefore at least that of a 90% interval over prompts alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import attrs
from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Integers: TypeAlias = "NDArray[np.int64]"

NO_WIDTH = 1e-12
"""Relative width below which values differ only by the order of additions."""
_SMALLEST_P = 1e-15
"""Smaller p-values are not computed."""


@frozen
class Variation:
    """Variances of several statistics: arrays of shape (statistics,)."""

    between: Floats = field(eq=False)
    """Variance from the differences between the means of seeds; 0 with one seed."""
    shared: Floats = field(eq=False)
    """Variance from prompts that several seeds share; 0 with one seed."""
    within: Floats = field(eq=False)
    """Variance from prompts alone, as if the seeds were fixed."""
    seeds: Integers = field(eq=False)
    """Number of seeds."""
    prompts: Integers = field(eq=False)
    """Number of distinct prompts."""

    @classmethod
    def of(cls, influence: Floats, involved: NDArray[np.bool_], seeds: Integers, prompts: Integers) -> Variation:
        """Compute the variances from the influence of each cluster on each statistic.

        The influence is the linear contribution of a cluster to the deviation of the statistic, (value - mean) / n for
        a mean. ``involved`` is true for the clusters that a statistic is based on. Both have the shape (clusters,
        statistics). ``seeds`` and ``prompts`` number the seed and the prompt of each cluster: shape (clusters,).
        """
        import numpy as np

        of_seed, of_prompt = (sums_by_group(influence, groups) for groups in (seeds, prompts))
        in_seed, in_prompt = (sums_by_group(involved.astype(float), groups) for groups in (seeds, prompts))
        seed_count, prompt_count = ((counts > 0).sum(axis=0) for counts in (in_seed, in_prompt))
        means = of_seed / np.maximum(in_seed, 1)
        centred = influence - means[seeds] * involved
        squares = (sums_by_group(centred, prompts) ** 2).sum(axis=0) if len(of_seed) > 1 else (of_prompt**2).sum(axis=0)
        # Seeds with their own prompts have one mean each, seeds that share all prompts have one mean together.
        fitted = seed_count * prompt_count / np.maximum(involved.sum(axis=0), 1)
        correction = prompt_count / np.maximum(prompt_count - fitted, 1e-300)
        correction = np.where(prompt_count - fitted > 1e-9, correction, 0.0)
        of_seeds = np.where(seed_count > 1, seed_count / np.maximum(seed_count - 1, 1), 0.0)
        covariance = squares - (centred**2).sum(axis=0)
        return cls(
            between=of_seeds * (of_seed**2).sum(axis=0),
            shared=np.maximum(covariance, 0.0) * of_seeds * correction,
            within=squares * correction,
            seeds=seed_count,
            prompts=prompt_count,
        )

    def half_widths(self, alpha: float) -> Floats:
        """Return the half-width of each interval with the coverage 1 - ``alpha``; NaN if nothing varies."""
        import numpy as np
        from scipy.special import ndtri, stdtrit

        over_seeds, over_prompts = (
            stdtrit(np.maximum(counts - 1, 1), 1 - alpha / 2) for counts in (self.seeds, self.prompts)
        )
        alone = over_prompts * np.sqrt(self.within)
        both = np.sqrt(over_seeds**2 * self.between + over_prompts**2 * self.shared)
        half = np.where(self.seeds > 1, np.maximum(both, ndtri(1 - alpha) * np.sqrt(self.within)), alone)
        return np.where(half > 0, half, np.nan)

    def p_value(self, difference: float, column: int) -> float | None:
        """Return the two-sided p-value of a statistic that differs from 0 by ``difference``.

        It is the ``alpha`` of the interval that ends at 0. None if the statistic does not vary.
        """
        one = Variation(*(part[column : column + 1] for part in attrs.astuple(self, recurse=False)))
        low, high = math.log(_SMALLEST_P), 0.0
        if not one.half_widths(0.05)[0] > NO_WIDTH * max(1.0, abs(difference)):
            return None
        for _ in range(60):
            middle = (low + high) / 2
            is_excluded = bool(one.half_widths(math.exp(middle))[0] < abs(difference))
            low, high = (low, middle) if is_excluded else (middle, high)
        return math.exp(high)


def jackknifed(value: Floats, without: Floats) -> Floats:
    """Return the influence of each cluster: ``value`` is of all clusters, row c of ``without`` of all but cluster c.

    Shapes: (statistics,) and (clusters, statistics) to (clusters, statistics). A statistic that is not defined without
    a cluster has no influence of that cluster (Efron, 1982, chapter 3).
    """
    import numpy as np

    count = max(len(without), 1)
    influence = np.nan_to_num((value - without) * (count - 1) / count)
    centred: Floats = influence - influence.mean(axis=0)
    return centred


def sums_by_group(values: Floats, groups: Integers) -> Floats:
    """Sum rows by group: (rows, columns) and (rows,) to (groups, columns)."""
    import numpy as np

    sums = np.zeros((int(groups.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums
