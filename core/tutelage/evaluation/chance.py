"""The agreement with the gold that judges without skill reach on the same answers.

- ``constant`` gives every answer the same score. All its pairs are ties, which count as wrong, and it has no
  correlation.
- ``length`` scores an answer by its number of words.
- ``random`` gives the judge's own scores to the answers in a random order. The values are expectations: it puts half of
  the pairs that it does not tie in the right order, and its correlations are 0.

A judge whose agreement is not above that of the three shows no skill, however high the figure is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tutelage.evaluation.agreement import Rating, joined_by_id, orders
from tutelage.evaluation.correlations import Cells, spearman, within_rows
from tutelage.evaluation.intervals import Clusters, Floats

JUDGES = ("constant", "length", "random")
"""The judges without skill."""
METRICS = ("pairwise_accuracy", "spearman", "spearman_within")
"""The metrics of ``agreement`` that are computed."""

Chance: TypeAlias = Mapping[str, Mapping[str, float | None]]
"""The value of each of ``METRICS``, by judge; None if it is not defined or not known."""


def chance(judge: Iterable[Rating], gold: Iterable[Rating]) -> Chance:
    """Return the agreement of ``constant``, ``length`` and ``random``, on the answers that judge and gold have scored.

    ``length`` is None in all metrics if the number of words of an answer is not known. Empty if there is no answer that
    both have scored.
    """
    import numpy as np

    joined = [(one, two) for one, two in joined_by_id(list(judge), list(gold)) if None not in (one.score, two.score)]
    if not joined:
        return {}
    keys = [(one.seed, one.prompt_id) for one, _ in joined]
    clusters = Clusters.of(keys)
    positions = np.array([clusters.index[key] for key in keys], int)
    scores, truth = (np.array([pair[side].score for pair in joined], float) for side in (0, 1))
    words = np.array([one.words for one, _ in joined], float)

    def values(given: Floats) -> dict[str, float | None]:
        cells = Cells.of(given, truth)
        rho = spearman(np.bincount(cells.of_item)[None].astype(float), cells)[0]
        rows = clusters.rows(positions, given), clusters.rows(positions, truth)
        within = within_rows(*rows)[0]
        own, other = orders(*rows)
        pairs = np.abs(other) > 0
        right = (own == other)[pairs]
        found = (
            right.mean() if len(right) else np.nan,
            rho,
            np.nanmean(within) if not np.isnan(within).all() else np.nan,
        )
        return {name: None if np.isnan(one) else _rounded(one) for name, one in zip(METRICS, found, strict=True)}

    own = values(scores)
    counts = np.unique(scores, return_counts=True)[1].astype(float)
    ties = (counts * (counts - 1)).sum() / max(1, len(scores) * (len(scores) - 1))
    expected = {"pairwise_accuracy": _rounded((1 - ties) / 2), "spearman": 0.0, "spearman_within": 0.0}
    return {
        "constant": values(np.zeros(len(scores))),
        "length": dict.fromkeys(METRICS) if np.isnan(words).any() else values(words),
        "random": {name: None if own[name] is None else expected[name] for name in METRICS},
    }


def _rounded(value: float) -> float:
    return round(float(value), 10) + 0.0
