"""Properties of a judge's scores, for choosing a judge before paying for a run.

Gold scores are optional. Without them, the calibration still has the distribution of the scores, the share of repeated
scores, and the correlation with length.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.correlations import pooled, within
from tutelage.evaluation.intervals import DEFAULT, Bootstrap, Cluster, Clusters, Floats, Metric, ratio_metrics


@frozen
class JudgedItem:
    """One answer with all samples of the judge's score."""

    id: str
    prompt_id: str
    scores: tuple[float | None, ...]
    """One score per sample; None for a reply that could not be parsed."""
    words: int
    """Length of the answer in words."""
    gold: float | None = None
    """The gold score; None if it is not known."""
    seed: int = 0

    @property
    def cluster(self) -> Cluster:
        """Seed and prompt id."""
        return self.seed, self.prompt_id

    @property
    def mean(self) -> float | None:
        """Mean score; None if no sample could be parsed."""
        known = [score for score in self.scores if score is not None]
        return sum(known) / len(known) if known else None


@frozen
class Calibration:
    """Properties of a judge's scores."""

    distribution: Mapping[float, int]
    """Number of replies by score."""
    parsed: Metric
    """Share of replies with a score. n counts replies."""
    repeated: Metric
    """Share of equal scores among the pairs of samples of one answer. n counts pairs of samples."""
    ties: Metric
    """Share of equal averaged scores among the pairs of answers to one prompt; they make no preference pair. n counts
    pairs of answers."""
    length_correlation: Metric
    """Spearman's correlation of averaged score and length in words, over all answers. n counts answers."""
    length_correlation_within: Metric
    """Mean over prompts of the correlation inside a prompt. n counts prompts."""
    verbosity_bias: Metric
    """Share of answer pairs in which the longer answer scores higher, minus 0.5. It is computed over pairs of answers
    to one prompt that differ in length and in the judge's score, and whose gold scores are equal or unknown. n counts
    pairs."""
    confusion: Mapping[float, Mapping[float, int]] = field(factory=dict)
    """Number of answers by gold score and averaged score, both rounded to whole points: ``confusion[gold][score]``."""


def calibrate(items: Iterable[JudgedItem], bootstrap: Bootstrap = DEFAULT) -> Calibration:
    """Compute the calibration of a judge from its scores.

    Intervals are over prompts, and over seeds if there are several. Raises ``InputError`` if an item
    occurs twice with the same seed.
    """
    import numpy as np

    items = sorted(items, key=lambda item: (item.seed, item.id))
    _check(items)
    clusters = Clusters.of(item.cluster for item in items)
    known = [item for item in items if item.mean is not None]
    positions = np.array([clusters.index[item.cluster] for item in known], int)
    scores = np.array([item.mean for item in known], float)
    words = np.array([item.words for item in known], float)
    gold = np.array([item.gold for item in known], float)
    score_rows, word_rows, gold_rows = (clusters.rows(positions, values) for values in (scores, words, gold))
    ties, verbosity_bias = _pair_metrics(score_rows, word_rows, gold_rows, clusters, bootstrap)
    parsed, repeated = _reply_metrics(items, clusters, bootstrap)
    return Calibration(
        distribution=_counted(score for item in items for score in item.scores),
        parsed=parsed,
        repeated=repeated,
        ties=ties,
        length_correlation=pooled(scores, words, positions, clusters, bootstrap)[0],
        length_correlation_within=within(score_rows, word_rows, clusters, bootstrap)[0],
        verbosity_bias=verbosity_bias,
        confusion=_confusion(known),
    )


def _check(items: Sequence[JudgedItem]) -> None:
    for one, following in pairwise(items):
        if (one.seed, one.id) == (following.seed, following.id):
            raise InputError(f"item {one.id} occurs twice (seed {one.seed})")


def _counted(scores: Iterable[float | None]) -> dict[float, int]:
    return dict(sorted(Counter(score for score in scores if score is not None).items()))


def _reply_metrics(items: Sequence[JudgedItem], clusters: Clusters, bootstrap: Bootstrap) -> list[Metric]:
    """The metrics ``parsed`` and ``repeated``."""
    import numpy as np

    keys = [item.cluster for item in items]
    pairs = [[(a, b) for a, b in combinations(item.scores, 2) if a is not None and b is not None] for item in items]
    numerators = [[sum(score is not None for score in item.scores) for item in items], [_equal(two) for two in pairs]]
    denominators = [[len(item.scores) for item in items], [len(two) for two in pairs]]
    hits, units = (
        np.stack([clusters.sums(keys, column) for column in columns], axis=1) for columns in (numerators, denominators)
    )
    return ratio_metrics(hits, units, clusters, bootstrap, proportion=True)


def _equal(pairs: Iterable[tuple[float, float]]) -> int:
    return sum(one == other for one, other in pairs)


def _pair_metrics(
    scores: Floats, words: Floats, gold: Floats, clusters: Clusters, bootstrap: Bootstrap
) -> tuple[Metric, Metric]:
    """The metrics ``ties`` and ``verbosity_bias``; the first three arrays have the shape (clusters, answers)."""
    import numpy as np

    one, other = np.triu_indices(scores.shape[1], 1)
    score, length, truth = (np.sign(rows[:, one] - rows[:, other]) for rows in (scores, words, gold))
    scored = ~np.isnan(score)
    biasable = scored & (score != 0) & (length != 0) & ~(np.abs(truth) > 0)
    ties, longer = (
        ratio_metrics(
            part.sum(axis=1, keepdims=True).astype(float),
            whole.sum(axis=1, keepdims=True).astype(float),
            clusters,
            bootstrap,
            proportion=True,
        )[0]
        for part, whole in ((score == 0, scored), (biasable & (score == length), biasable))
    )
    return ties, longer.shifted(-0.5)


def _confusion(items: Sequence[JudgedItem]) -> dict[float, dict[float, int]]:
    rows: dict[float, Counter[float]] = {}
    for item in items:
        if item.gold is not None and item.mean is not None:
            rows.setdefault(_rounded(item.gold), Counter())[_rounded(item.mean)] += 1
    return {score: dict(sorted(counts.items())) for score, counts in sorted(rows.items())}


def _rounded(score: float) -> float:
    """Round to whole points, halves up. Python's ``round`` rounds halves to even: 2.5 to 2 and 3.5 to 4."""
    return float(math.floor(score + 0.5))
