"""Agreement of a judge's scores with the gold scores, on the same answers joined by id.

Definitions, for items that both have scored, within one prompt (and seed):

- ``pairwise_accuracy``: the share of answer pairs that the judge puts in the same order as the gold, among the pairs
  that the gold does not tie. A tie of the judge counts as wrong. n counts pairs.
- ``five_best``: of the answers to which the judge gives the highest score, the share to which the gold gives its
  maximum among the answers to the prompt (tied maxima included). An averaged score counts as the highest from
  ``highest - 0.5``. n counts the answers with the highest score.
- ``exact_match``: the share of prompts whose answers have the same order by both, ties included, among the prompts with
  at least two answers. n counts prompts.
- ``spearman``, ``kendall_tau``: rank correlations over all items pooled; tau is tau-b (Kendall, 1945). n counts items.
  With the suffix ``_within``: the mean over prompts of the correlation inside a prompt, for prompts in which neither
  side gives all answers the same score. n counts prompts.
- ``unique_best``: the share of prompts in which the judge gives its highest score to one answer only, among the prompts
  with at least two different answers that the judge has scored. Only these have a best answer to prefer. Answers with
  the same text count as one. n counts prompts.
- ``parsed``: the share of the judge's replies that had a score. n counts replies.

With ``as_published`` the functions compute what the paper's notebook computed: rows are joined by position, a missing
score is -1, "pairwise accuracy" is the share of equal scores, "5-best" is the share of the judge's fives that the gold
scores five, and "exact match" is the share of prompts with all scores equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import evolve, field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.correlations import pooled, within
from tutelage.evaluation.intervals import (
    DEFAULT,
    Bootstrap,
    Cluster,
    Clusters,
    Floats,
    Integers,
    Metric,
    ratio_metrics,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNPARSED_AS_PUBLISHED = -1.0
"""The published code wrote -1 for a reply without a score, and used it as a score."""


@frozen
class Rating:
    """The score of one answer, by a judge or by the gold."""

    id: str
    """Id of the answer. Judge and gold are joined by seed and id."""
    prompt_id: str
    score: float | None
    """Mean over the samples; None if no sample could be parsed."""
    seed: int = 0
    """Training seed of the model that wrote the answer."""
    parsed: int = field()
    """Number of replies with a score."""
    asked: int = 1
    """Number of replies."""
    text: str = ""
    """The text of the answer, or an id of it, by which equal answers are found. If empty, no answer is equal to it."""
    words: int | None = None
    """Length of the answer in words; None if it is not known."""

    @parsed.default
    def _one_if_scored(self) -> int:
        return 0 if self.score is None else 1


@frozen
class Agreement:
    """Agreement of a judge with the gold. The module docstring defines each measure."""

    items: int
    """Number of answers that both have scored."""
    unmatched: int
    """Number of answers that are in one of the two lists only."""
    pairwise_accuracy: Metric
    five_best: Metric
    exact_match: Metric
    spearman: Metric
    kendall_tau: Metric
    spearman_within: Metric
    kendall_within: Metric
    unique_best: Metric
    parsed: Metric


class Averaged(Protocol):
    """The averaged samples of one item, as ``tutelage.preferences.judging.average`` returns them."""

    @property
    def score(self) -> float | None:
        """Mean of the parsed samples; None if there is none."""

    @property
    def parsed(self) -> int:
        """Number of samples with a score."""

    @property
    def asked(self) -> int:
        """Number of samples."""


def ratings(
    averages: Mapping[str, Averaged],
    prompt_of: Mapping[str, str],
    seed: int = 0,
    text_of: Mapping[str, str] | None = None,
) -> list[Rating]:
    """Make ratings from averaged judgements.

    ``averages`` is by item id; ``prompt_of`` maps item ids to prompt ids, and ``text_of`` to the texts of the answers.
    Raises ``InputError`` if the prompt of an item is not in ``prompt_of``.
    """
    texts = text_of or {}
    words = {item_id: len(text.split()) for item_id, text in texts.items()}
    if missing := averages.keys() - prompt_of.keys():
        raise InputError(f"item {min(missing)} was judged, but its prompt is not known ({len(missing)} such items)")
    return [
        Rating(
            item_id,
            prompt_of[item_id],
            averaged.score,
            seed,
            averaged.parsed,
            averaged.asked,
            texts.get(item_id, ""),
            words.get(item_id),
        )
        for item_id, averaged in averages.items()
    ]


def agreement(
    judge: Iterable[Rating],
    gold: Iterable[Rating],
    highest: float = 5.0,
    lowest: float = 0.0,
    as_published: bool = False,
    bootstrap: Bootstrap = DEFAULT,
) -> Agreement:
    """Compare a judge's ratings with the gold ratings.

    ``lowest`` and ``highest`` are the ends of the scale. The order of the ratings has no effect, except with
    ``as_published``, which joins them by position. Intervals are over prompts, and over seeds if there are
    several. Raises ``InputError`` if an id occurs twice or under two prompts, if a score is outside the scale, or if
    lists that are joined by position differ in length.
    """
    judge, gold = list(judge), list(gold)
    _check(judge, "judge", lowest, highest)
    _check(gold, "gold", lowest, highest)
    joined = _by_position(judge, gold) if as_published else joined_by_id(judge, gold)
    clusters = Clusters.of(_cluster(rating) for rating in [*judge, *gold])
    measures = _Measures(_Table.of(joined, clusters), clusters, highest, bootstrap)
    table = measures.table
    rho, tau = pooled(table.judge, table.gold, table.cluster, clusters, bootstrap)
    rho_within, tau_within = within(table.judge_rows, table.gold_rows, clusters, bootstrap)
    return Agreement(
        items=len(table.judge),
        unmatched=len(judge) + len(gold) - 2 * len(joined),
        pairwise_accuracy=measures.equal_scores() if as_published else measures.pairwise_accuracy(),
        five_best=measures.five_best(as_published),
        exact_match=measures.exact_match(as_published),
        spearman=rho,
        kendall_tau=tau,
        spearman_within=rho_within,
        kendall_within=tau_within,
        unique_best=_unique_best(judge, clusters, bootstrap),
        parsed=_parsed(judge, clusters, bootstrap),
    )


@frozen
class _Table:
    """The items that both have scored, pooled and by prompt."""

    cluster: Integers = field(eq=False)
    """Index of each item's cluster: shape (items,)."""
    judge: Floats = field(eq=False)
    """Shape (items,)."""
    gold: Floats = field(eq=False)
    """Shape (items,)."""
    judge_rows: Floats = field(eq=False)
    """The judge's scores, one row per cluster, padded with NaN: shape (clusters, most items in a cluster)."""
    gold_rows: Floats = field(eq=False)
    """The gold scores in the same form."""

    @classmethod
    def of(cls, joined: Sequence[tuple[Rating, Rating]], clusters: Clusters) -> _Table:
        import numpy as np

        both = [(one, other) for one, other in joined if one.score is not None and other.score is not None]
        cluster = np.array([clusters.index[_cluster(one)] for one, _ in both], int)
        judge, gold = (np.array([pair[side].score for pair in both], float) for side in (0, 1))
        return cls(cluster, judge, gold, clusters.rows(cluster, judge), clusters.rows(cluster, gold))


@frozen
class _Measures:
    table: _Table
    clusters: Clusters
    highest: float
    bootstrap: Bootstrap

    def pairwise_accuracy(self) -> Metric:
        judge, gold = orders(self.table.judge_rows, self.table.gold_rows)
        return self._share((judge == gold) & (gold != 0), ~_is_nan(gold) & (gold != 0))

    def equal_scores(self) -> Metric:
        return self._share(self.table.judge_rows == self.table.gold_rows, ~_is_nan(self.table.gold_rows))

    def five_best(self, as_published: bool) -> Metric:
        import numpy as np

        judge, gold = self.table.judge_rows, self.table.gold_rows
        top = np.fmax.reduce(gold, axis=1, initial=-np.inf, keepdims=True)
        best = gold == (self.highest if as_published else top)
        fives = judge >= self.highest - (0.0 if as_published else 0.5)
        return self._share(fives & best, fives)

    def exact_match(self, as_published: bool) -> Metric:
        judge, gold = self.table.judge_rows, self.table.gold_rows
        judge, gold = (judge, gold) if as_published else orders(judge, gold)
        same = ((judge == gold) | _is_nan(gold)).all(axis=1, keepdims=True)
        ranked = (~_is_nan(gold)).sum(axis=1, keepdims=True) > 0
        return self._share(same & ranked, ranked)

    def _share(self, hits: NDArray[np.bool_], units: NDArray[np.bool_]) -> Metric:
        """Hits divided by units; both arrays have the shape (clusters, units of a cluster)."""
        numerators, denominators = (part.sum(axis=1, keepdims=True).astype(float) for part in (hits, units))
        return ratio_metrics(numerators, denominators, self.clusters, self.bootstrap, proportion=True)[0]


def orders(*sides: Floats) -> tuple[Floats, ...]:
    """Return the order of every two items of a row as 1, 0, -1 or NaN: arrays (rows, items) to arrays (rows, pairs)."""
    import numpy as np

    one, other = np.triu_indices(sides[0].shape[1], 1)
    return tuple(np.sign(rows[:, one] - rows[:, other]) for rows in sides)


def _parsed(judge: Sequence[Rating], clusters: Clusters, bootstrap: Bootstrap) -> Metric:
    keys = [_cluster(rating) for rating in judge]
    parsed, asked = (
        clusters.sums(keys, [float(getattr(rating, name)) for rating in judge])[:, None] for name in ("parsed", "asked")
    )
    return ratio_metrics(parsed, asked, clusters, bootstrap, proportion=True)[0]


def _unique_best(judge: Sequence[Rating], clusters: Clusters, bootstrap: Bootstrap) -> Metric:
    scores: dict[Cluster, dict[str, float]] = {}
    for rating in judge:
        if rating.score is not None:
            scores.setdefault(_cluster(rating), {})[rating.text or rating.id] = rating.score
    compared = {cluster: list(found.values()) for cluster, found in scores.items() if len(found) > 1}
    unique = [float(found.count(max(found)) == 1) for found in compared.values()]
    hits, prompts = (clusters.sums(list(compared), values)[:, None] for values in (unique, [1.0] * len(compared)))
    return ratio_metrics(hits, prompts, clusters, bootstrap, proportion=True)[0]


def _cluster(rating: Rating) -> Cluster:
    return rating.seed, rating.prompt_id


def _is_nan(values: Floats) -> NDArray[np.bool_]:
    import numpy as np

    return np.isnan(values)


def joined_by_id(judge: Sequence[Rating], gold: Sequence[Rating]) -> list[tuple[Rating, Rating]]:
    """Return the ratings of the answers that are in both lists, in the order of seed and id.

    Raises ``InputError`` if an answer belongs to two prompts.
    """
    known = {(rating.seed, rating.id): rating for rating in gold}
    matched = sorted((one for one in judge if (one.seed, one.id) in known), key=lambda one: (one.seed, one.id))
    joined = [(one, known[one.seed, one.id]) for one in matched]
    for one, other in joined:
        if one.prompt_id != other.prompt_id:
            raise InputError(f"item {one.id}: prompt {one.prompt_id} for the judge, {other.prompt_id} for the gold")
    return joined


def _by_position(judge: Sequence[Rating], gold: Sequence[Rating]) -> list[tuple[Rating, Rating]]:
    if len(judge) != len(gold):
        raise InputError(f"{len(judge)} items of the judge and {len(gold)} of the gold can't be joined by position")
    return [(_as_published(one), _as_published(other)) for one, other in zip(judge, gold, strict=True)]


def _as_published(rating: Rating) -> Rating:
    return evolve(rating, score=UNPARSED_AS_PUBLISHED if rating.score is None else rating.score)


def _check(ratings: Iterable[Rating], side: str, lowest: float, highest: float) -> None:
    seen: set[tuple[int, str]] = set()
    for rating in ratings:
        if (rating.seed, rating.id) in seen:
            raise InputError(f"{side}: item {rating.id} occurs twice (seed {rating.seed})")
        seen.add((rating.seed, rating.id))
        if rating.score is not None and not lowest <= rating.score <= highest:
            raise InputError(
                f"{side}: item {rating.id} has the score {rating.score}, outside {lowest:g} to {highest:g}; "
                "use None for an item without a score"
            )
        if not 0 <= rating.parsed <= rating.asked:
            raise InputError(f"{side}: item {rating.id} has {rating.parsed} parsed replies, but {rating.asked} replies")
