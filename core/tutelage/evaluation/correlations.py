"""Rank correlations of two raters with intervals, pooled over all items and inside each prompt.

Scores have few distinct values. Pooled items are therefore counted in cells, one for each distinct pair of scores. A
subset of the prompts is then a row of cell counts, from which both correlations are computed exactly, ties included.
"""

from __future__ import annotations

from attrs import field, frozen

from tutelage.evaluation.intervals import (
    NOTHING,
    Bootstrap,
    Clusters,
    Estimates,
    Floats,
    Integers,
    Metric,
    of_several_seeds,
    ratio_metrics,
)
from tutelage.evaluation.variation import jackknifed

_BLOCK = 1024
"""Number of cells compared at once. It bounds the memory if scores are continuous and every item is its own cell."""


def pooled(
    first: Floats, second: Floats, positions: Integers, clusters: Clusters, bootstrap: Bootstrap
) -> tuple[Metric, Metric]:
    """Compute Spearman's correlation and Kendall's tau-b over all items; n counts items.

    ``first`` and ``second`` are the scores, ``positions`` the index of each item's cluster: shape (items,).
    """
    import numpy as np

    if not len(first):
        return NOTHING, NOTHING
    cells = Cells.of(first, second)
    counts = np.zeros((len(clusters.keys), len(cells.first)))
    np.add.at(counts, (positions, cells.of_item), 1.0)
    total = counts.sum(axis=0, keepdims=True)
    involved = np.repeat(counts.sum(axis=1, keepdims=True) > 0, 2, axis=1)
    one_seed = clusters.is_of_one_seed
    rows = np.concatenate([total, clusters.weights(bootstrap) @ counts if one_seed else total - counts])
    both = np.stack([correlation(rows, cells) for correlation in (spearman, kendall_tau)], axis=1)
    if one_seed:
        found = Estimates(both[0], involved.sum(axis=0), both[1:])
    else:
        found = of_several_seeds(both[0], jackknifed(both[0], both[1:]), involved, clusters)
    rho, tau = found.metrics([len(first)] * 2, bootstrap)
    return rho, tau


def within(first: Floats, second: Floats, clusters: Clusters, bootstrap: Bootstrap) -> tuple[Metric, Metric]:
    """Compute the means over clusters of Spearman's correlation and tau-b inside each cluster.

    ``first`` and ``second`` are scores of shape (clusters, items), as ``Clusters.rows`` returns them. n counts the
    clusters in which the correlation is defined.
    """
    import numpy as np

    values = np.stack(within_rows(first, second), axis=1)
    defined = (~np.isnan(values)).astype(float)
    rho, tau = ratio_metrics(np.nan_to_num(values), defined, clusters, bootstrap)
    return rho, tau


@frozen
class Cells:
    """The distinct pairs of scores of some items."""

    first: Floats = field(eq=False)
    """The first rater's score of each cell: shape (cells,)."""
    second: Floats = field(eq=False)
    """The second rater's score of each cell: shape (cells,)."""
    of_item: Integers = field(eq=False)
    """Index of each item's cell: shape (items,)."""

    @classmethod
    def of(cls, first: Floats, second: Floats) -> Cells:
        """Make the cells from the scores of two raters: shape (items,) each."""
        import numpy as np

        values, of_item = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
        return cls(values[:, 0], values[:, 1], of_item.reshape(-1))


def spearman(counts: Floats, cells: Cells) -> Floats:
    """Compute Spearman's correlation for each row of cell counts: (rows, cells) to (rows,).

    This is the product-moment correlation of mid-ranks, which is correct with ties (Kendall & Gibbons, 1990, section
    3.8). NaN if one side is constant.
    """
    import numpy as np

    total = counts.sum(axis=1, keepdims=True)
    first, second = (_midranks(counts, values) - (total + 1) / 2 for values in (cells.first, cells.second))
    squares = (counts * first**2).sum(axis=1) * (counts * second**2).sum(axis=1)
    return _divided((counts * first * second).sum(axis=1), np.sqrt(squares))


def kendall_tau(counts: Floats, cells: Cells) -> Floats:
    """Compute Kendall's tau-b (1945) for each row of cell counts: (rows, cells) to (rows,).

    NaN if one side is constant.
    """
    import numpy as np

    total = counts.sum(axis=1)
    all_pairs = total * (total - 1) / 2
    first, second = (all_pairs - _tied_pairs(counts, values) for values in (cells.first, cells.second))
    return _divided(_concordance(counts, cells), np.sqrt(first * second))


def within_rows(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Compute Spearman's correlation and tau-b inside each row: two arrays (rows, items) to two arrays (rows,).

    In the input, NaN is a missing item. In the result, NaN is a row with fewer than two items that both scored, or in
    which one side ties all of them.
    """
    import numpy as np

    missing = np.isnan(first) | np.isnan(second)
    one, other = (_signs(np.where(missing, np.nan, side)) for side in (first, second))
    tau = _divided((one * other).sum(axis=(1, 2)), np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2))))
    # An item's sum of signs is twice its mid-rank minus a constant, and is already centred.
    ranks, others = one.sum(axis=2), other.sum(axis=2)
    rho = _divided((ranks * others).sum(axis=1), np.sqrt((ranks**2).sum(axis=1) * (others**2).sum(axis=1)))
    return rho, tau


def _signs(rows: Floats) -> Floats:
    """Sign of the difference of every two items of a row, 0 if one is missing: shape (rows, items, items)."""
    import numpy as np

    return np.nan_to_num(np.sign(rows[:, :, None] - rows[:, None, :]))


def _groups(counts: Floats, values: Floats) -> tuple[Floats, Integers]:
    """Counts of each distinct value, in ascending order, and the index of each cell's value among them."""
    import numpy as np

    _, of_cell = np.unique(values, return_inverse=True)
    order = np.argsort(of_cell, kind="stable")
    starts = np.flatnonzero(np.diff(of_cell[order], prepend=-1))
    return np.add.reduceat(counts[:, order], starts, axis=1), of_cell


def _midranks(counts: Floats, values: Floats) -> Floats:
    """Mean rank of the items in each cell, ranked by ``values``: shape (rows, cells)."""
    import numpy as np

    sizes, of_cell = _groups(counts, values)
    ranks: Floats = (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, of_cell]
    return ranks


def _tied_pairs(counts: Floats, values: Floats) -> Floats:
    sizes, _ = _groups(counts, values)
    tied: Floats = (sizes * (sizes - 1) / 2).sum(axis=1)
    return tied


def _concordance(counts: Floats, cells: Cells) -> Floats:
    """Number of concordant minus discordant pairs, for each row of counts."""
    import numpy as np

    result = np.zeros(len(counts))
    for start in range(0, len(cells.first), _BLOCK):
        block = slice(start, start + _BLOCK)
        signs = np.sign(cells.first[:, None] - cells.first[block]) * np.sign(
            cells.second[:, None] - cells.second[block]
        )
        result += (counts @ signs * counts[:, block]).sum(axis=1)
    return result / 2


def _divided(numerators: Floats, denominators: Floats) -> Floats:
    """The ratio; NaN for a denominator of 0."""
    import numpy as np

    defined = denominators > 0
    return np.where(defined, numerators / np.where(defined, denominators, 1), np.nan)
