"""Self-preference of a judge: how much more it overrates the answers of its own model than those of other models.

Panickssery et al. (2024, "LLM Evaluators Recognize and Favor Their Own Generations", arXiv 2404.13076) call it
self-preference if a judge scores its own outputs higher than those of others while humans consider them of equal
quality. The quality is controlled as in the DBG score (Chen et al., 2025, arXiv 2506.02592): from each score of the
judge, the gold score of the same answer is subtracted. A judge that overrates every answer would have such a gap on its
own answers, too, so the gap on the answers of other models is subtracted (cf. Spiliopoulou et al., 2025, arXiv
2508.06709)::

    self_preference = mean(judge - gold, own answers) - mean(judge - gold, answers of other models)

Both means are over the prompts with answers of both kinds. The value is in points of the scale, and 0 for a judge
without self-preference. A judge that uses a narrower range of scores than the gold has smaller gaps on better answers:
if its own answers are much better than the others by the gold, its self-preference is underestimated.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import fields, frozen

from tutelage.evaluation.agreement import Rating
from tutelage.evaluation.intervals import (
    DEFAULT,
    Bootstrap,
    Clusters,
    Floats,
    Metric,
    paired_ratio,
    ratio_metrics,
)

Pairs = Sequence[tuple[Rating, Rating]]
"""The ratings of answers by the judge and by the gold, as ``agreement.joined_by_id`` returns them."""


@frozen
class SelfPreference:
    """The self-preference of a judge, and the two means that it is the difference of."""

    self_preference: Metric
    """Paired by prompt; n counts prompts, once per seed."""
    own_overrating: Metric
    """Mean of judge minus gold on answers of the judge's own model; n counts answers."""
    others_overrating: Metric
    """The same on answers of other models."""


METRICS = tuple(one.name for one in fields(SelfPreference))
"""Names of the metrics."""


def self_preference(own: Pairs, others: Pairs, bootstrap: Bootstrap = DEFAULT) -> SelfPreference:
    """Return the self-preference of a judge from its scores and the gold scores of two sets of answers.

    ``own`` are answers of the judge's own model, ``others`` those of other models, to the same prompts. Answers without
    one of the two scores, and prompts without answers of both kinds, are left out. Intervals are over prompts, and over
    seeds if there are several.
    """
    clusters = Clusters.of((one.seed, one.prompt_id) for one, _ in (*own, *others))
    sides = [_gaps(pairs, clusters) for pairs in (own, others)]
    both = (sides[0][1] > 0) & (sides[1][1] > 0)
    [difference] = paired_ratio(sides[0], sides[1], clusters, bootstrap).metrics([int(both.sum())], bootstrap)
    means = [ratio_metrics(sums * both, counts * both, clusters, bootstrap)[0] for sums, counts in sides]
    return SelfPreference(difference, *means)


def _gaps(pairs: Pairs, clusters: Clusters) -> tuple[Floats, Floats]:
    """The sums of judge minus gold, and the numbers of answers that both have scored: shapes (clusters, 1)."""
    keys, values = [], []
    for judged, gold in pairs:
        if judged.score is not None and gold.score is not None:
            keys.append((judged.seed, judged.prompt_id))
            values.append(judged.score - gold.score)
    sums, counts = (clusters.sums(keys, one)[:, None] for one in (values, [1.0] * len(keys)))
    return sums, counts
