"""Metrics of a model's answers (gold score, share of highest scores, length), and differences between two models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import (
    DEFAULT,
    Bootstrap,
    Clusters,
    Floats,
    Metric,
    paired_ratio,
    ratio_metrics,
)
from tutelage.records import Candidate, Outcome


@frozen
class GradedAnswer:
    """One answer of a model with its gold score."""

    prompt_id: str
    words: int | None
    """Length in words, separated by whitespace; None if the model gave no answer."""
    gold: float | None
    """The evaluator's score; None if it gave none."""
    seed: int = 0
    """Training seed of the model that wrote the answer."""


COMPARED = ("gold_score", "gold_exact", "answer_words")
"""Metrics in which two models are compared."""


def graded(candidates: Iterable[Candidate], gold: Mapping[str, float | None], seed: int = 0) -> list[GradedAnswer]:
    """Join answers with their gold scores.

    ``gold`` is by candidate id. The score of a candidate that is not in it is None.
    """
    return [
        GradedAnswer(
            prompt_id=candidate.prompt_id,
            words=None if candidate.outcome is Outcome.FAILED else len(candidate.text.split()),
            gold=gold.get(candidate.id),
            seed=seed,
        )
        for candidate in candidates
    ]


def score_metrics(
    answers: Iterable[GradedAnswer], highest: float = 5.0, lowest: float = 0.0, bootstrap: Bootstrap = DEFAULT
) -> dict[str, Metric]:
    """Compute the metrics of one model's answers; a prompt may have several answers (a prompt is one cluster).

    - ``gold_score``: mean gold score of the answers that have one. n counts these answers.
    - ``gold_exact``: share of these answers with the score ``highest``. n counts these answers.
    - ``gold_scored``: share of answers with a gold score. n counts all answers.
    - ``answer_words``: mean length in words. n counts the answers that have a length.

    Raises ``InputError`` if a score is outside ``lowest`` to ``highest``, or is not a number.
    """
    import numpy as np

    answers = list(answers)
    _check(answers, lowest, highest)
    table = _Table.of(answers, highest)
    (gold, exact, words), (scored, _, worded) = table.numerators.T, table.denominators.T
    parts = [(gold, scored), (exact, scored), (scored, table.answers), (words, worded)]
    numerators, denominators = (np.stack(side, axis=1) for side in zip(*parts, strict=True))
    names = ("gold_score", "gold_exact", "gold_scored", "answer_words")
    shares = (False, True, True, False)
    made = ratio_metrics(numerators, denominators, table.clusters, bootstrap, proportion=shares)
    return dict(zip(names, made, strict=True))


def score_differences(
    left: Iterable[GradedAnswer],
    right: Iterable[GradedAnswer],
    highest: float = 5.0,
    lowest: float = 0.0,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Metric]:
    """Compute left minus right in ``gold_score``, ``gold_exact`` and ``answer_words``, paired by seed and prompt.

    Only prompts for which both models have a measured answer with the same seed are used; n counts them. Raises
    ``InputError`` if a score is outside ``lowest`` to ``highest``, or is not a number.
    """
    left, right = list(left), list(right)
    _check([*left, *right], lowest, highest)
    clusters = Clusters.of((answer.seed, answer.prompt_id) for answer in [*left, *right])
    sides = [_Table.of(answers, highest, clusters) for answers in (left, right)]
    one, other = ((side.numerators, side.denominators) for side in sides)
    estimates = paired_ratio(one, other, clusters, bootstrap)
    counts = ((one[1] > 0) & (other[1] > 0)).sum(axis=0)
    return dict(zip(COMPARED, estimates.metrics(counts, bootstrap), strict=True))


@frozen
class _Table:
    """Sums by cluster: arrays (clusters, 3) with columns in the order of ``COMPARED``."""

    clusters: Clusters
    numerators: Floats = field(eq=False)
    denominators: Floats = field(eq=False)
    answers: Floats = field(eq=False)
    """Number of answers in each cluster: shape (clusters,)."""

    @classmethod
    def of(cls, answers: Sequence[GradedAnswer], highest: float, clusters: Clusters | None = None) -> _Table:
        import numpy as np

        keys = [(answer.seed, answer.prompt_id) for answer in answers]
        clusters = clusters or Clusters.of(keys)
        gold = np.array([answer.gold for answer in answers], float)
        words = np.array([answer.words for answer in answers], float)
        values = (np.nan_to_num(gold), gold == highest, np.nan_to_num(words))
        known = (~np.isnan(gold), ~np.isnan(gold), ~np.isnan(words))
        return cls(
            clusters,
            np.stack([clusters.sums(keys, value.astype(float)) for value in values], axis=1),
            np.stack([clusters.sums(keys, present.astype(float)) for present in known], axis=1),
            clusters.sums(keys, np.ones(len(keys))),
        )


def _check(answers: Iterable[GradedAnswer], lowest: float, highest: float) -> None:
    for answer in answers:
        if answer.gold is not None and not lowest <= answer.gold <= highest:
            raise InputError(
                f"prompt {answer.prompt_id}: gold score {answer.gold} is not between {lowest:g} and {highest:g}; "
                "use None for an answer without a score"
            )
