"""What a judge's scores look like, so that one can choose a judge before paying for it.

The gold is optional: without it a judge still shows how it spreads its scores, whether it repeats itself, and whether
it goes by length.
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
    """One answer with every sample of the judge's opinion."""

    id: str
    prompt_id: str
    scores: tuple[float | None, ...]
    """One a sample; None for a reply that could not be parsed."""
    words: int
    """Length of the answer in words."""
    gold: float | None = None
    seed: int = 0

    @property
    def cluster(self) -> Cluster:
        """The prompt under its seed."""
        return self.seed, self.prompt_id

    @property
    def mean(self) -> float | None:
        """The averaged score; None where no sample could be parsed."""
        known = [score for score in self.scores if score is not None]
        return sum(known) / len(known) if known else None


@frozen
class Calibration:
    """How a judge scores."""

    distribution: Mapping[float, int]
    """How many replies gave each score."""
    parsed: Metric
    """Share of replies with a score."""
    repeated: Metric
    """Over every two samples of one answer, the share with equal scores. n counts such pairs."""
    ties: Metric
    """Over every two answers to one prompt, the share whose averaged scores are equal: they make no preference pair."""
    length_correlation: Metric
    """Spearman's correlation of averaged score and length in words, over all answers."""
    length_correlation_within: Metric
    """Its mean over prompts."""
    verbosity_bias: Metric
    """Over every two answers of different length to one prompt that the judge tells apart, and the gold, where it is
    known, does not: the share in which the longer one scores higher, less 0.5."""
    confusion: Mapping[float, Mapping[float, int]] = field(factory=dict)
    """For each gold score, how many answers got which averaged score, both rounded to whole points."""


def calibrate(items: Iterable[JudgedItem], bootstrap: Bootstrap = DEFAULT) -> Calibration:
    """Describe a judge by its scores; intervals resample prompts, and seeds where there are several.

    Raises ``InputError`` where an item is there twice under one seed.
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
            raise InputError(f"item {one.id} is there twice (seed {one.seed})")


def _counted(scores: Iterable[float | None]) -> dict[float, int]:
    return dict(sorted(Counter(score for score in scores if score is not None).items()))


def _reply_metrics(items: Sequence[JudgedItem], clusters: Clusters, bootstrap: Bootstrap) -> list[Metric]:
    """Shares of parsed replies, and of equal ones among every two samples of an item."""
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
    """Ties, and verbosity bias, over every two answers of a prompt: rows of the shape (clusters, answers)."""
    import numpy as np

    one, other = np.triu_indices(scores.shape[1], 1)
    score, length, truth = (np.sign(rows[:, one] - rows[:, other]) for rows in (scores, words, gold))
    there = ~np.isnan(score)
    told_apart = there & (score != 0) & (length != 0) & ~(np.abs(truth) > 0)
    ties, longer = (
        ratio_metrics(
            part.sum(axis=1, keepdims=True).astype(float),
            whole.sum(axis=1, keepdims=True).astype(float),
            clusters,
            bootstrap,
            proportion=True,
        )[0]
        for part, whole in ((score == 0, there), (told_apart & (score == length), told_apart))
    )
    return ties, longer.shifted(-0.5)


def _confusion(items: Sequence[JudgedItem]) -> dict[float, dict[float, int]]:
    rows: dict[float, Counter[float]] = {}
    for item in items:
        if item.gold is not None and item.mean is not None:
            rows.setdefault(_rounded(item.gold), Counter())[_rounded(item.mean)] += 1
    return {score: dict(sorted(counts.items())) for score, counts in sorted(rows.items())}


def _rounded(score: float) -> float:
    """To whole points, halves up: Python's own rounding sends 2.5 to 2 and 3.5 to 4."""
    return float(math.floor(score + 0.5))
