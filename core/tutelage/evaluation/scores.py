"""What a model's answers are worth: gold score, exact matches, length; and the differences between two models."""

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
    metrics,
    paired_ratio,
    ratio_metrics,
)
from tutelage.records import Candidate, Outcome


@frozen
class GradedAnswer:
    """One answer of a model as it is measured."""

    prompt_id: str
    words: int | None
    """Length in words, as whitespace separates them; None where no answer came back."""
    gold: float | None
    """The evaluator's score; None where it gave none."""
    seed: int = 0
    """The training seed of the model that wrote it."""


COMPARED = ("gold_score", "gold_exact", "answer_words")
"""Measures that two models can differ in."""


def graded(candidates: Iterable[Candidate], gold: Mapping[str, float | None], seed: int = 0) -> list[GradedAnswer]:
    """Join answers with their gold scores (by candidate id). A candidate that the gold doesn't know has no score."""
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
    """Measure one model's answers, several to a prompt if need be (a prompt is one cluster).

    ``gold_score``: mean over the answers that have a gold score. ``gold_exact``: share of these with the rubric's
    ``highest`` score. ``gold_scored``: share of all answers that have one. ``answer_words``: mean length. n counts
    answers. Raises ``InputError`` where a score is outside the scale or no number.
    """
    import numpy as np

    answers = list(answers)
    _check(answers, lowest, highest)
    table = _Table.of(answers, highest)
    (gold, exact, words), (scored, _, worded) = table.numerators.T, table.denominators.T
    parts = [(gold, scored), (exact, scored), (scored, table.asked), (words, worded)]
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
    """Left minus right in ``gold_score``, ``gold_exact`` and ``answer_words``, paired by seed and prompt.

    Only prompts on which both have a measured answer count, under the same seed; n is their number.
    """
    left, right = list(left), list(right)
    _check([*left, *right], lowest, highest)
    clusters = Clusters.of((answer.seed, answer.prompt_id) for answer in [*left, *right])
    sides = [_Table.of(answers, highest, clusters) for answers in (left, right)]
    one, other = ((side.numerators, side.denominators) for side in sides)
    values, replicates, counts = paired_ratio(one, other, clusters, bootstrap)
    return dict(zip(COMPARED, metrics(values, replicates, counts, bootstrap), strict=True))


@frozen
class _Table:
    """Sums for each cluster: columns in the order of ``COMPARED``."""

    clusters: Clusters
    numerators: Floats = field(eq=False)
    denominators: Floats = field(eq=False)
    asked: Floats = field(eq=False)

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
            np.stack([clusters.sums(keys, there.astype(float)) for there in known], axis=1),
            clusters.sums(keys, np.ones(len(keys))),
        )


def _check(answers: Iterable[GradedAnswer], lowest: float, highest: float) -> None:
    for answer in answers:
        if answer.gold is not None and not lowest <= answer.gold <= highest:
            raise InputError(
                f"prompt {answer.prompt_id}: gold score {answer.gold} is not between {lowest:g} and {highest:g}; "
                "an answer without a score has None"
            )
