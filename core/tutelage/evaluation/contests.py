"""Bouts from contests and verdicts. A contest is one comparison; a bout joins the two orders of a pair of answers.

A bout is a win or a loss if both orders prefer the same answer. It is a tie if the orders disagree or have no
preference. It is unparsed if the verdict of an order is missing or has no preference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.intervals import Cluster, Clusters, Floats, Integers
from tutelage.records import Verdict


@frozen
class Contest:
    """The models of one comparison, in order. The ``Comparison``, which the evaluator gets, does not name them."""

    comparison_id: str
    prompt_id: str
    first: str
    """The model that wrote the first answer."""
    second: str
    """The model that wrote the second answer."""
    first_words: int
    """Length of the first answer in words."""
    second_words: int
    """Length of the second answer in words."""
    seed: int = 0


WIN, TIE, LOSS, UNPARSED = range(4)
"""Outcomes of a bout, for the left model."""

_Bout: TypeAlias = tuple[Contest, float | None, float | None]
"""The contest of one order, its preference, and the preference of the other order.

Each preference is for the first answer of its own order.
"""


@frozen
class Bouts:
    """All bouts as columns: arrays of shape (bouts,), from the view of the left model of each pair."""

    clusters: Clusters
    models: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    """Indices into ``models``: (left, right)."""
    cluster: Integers = field(eq=False)
    """Index into ``clusters``."""
    pair: Integers = field(eq=False)
    """Index into ``pairs``."""
    outcome: Integers = field(eq=False)
    """``WIN``, ``TIE``, ``LOSS`` or ``UNPARSED``, for the left model."""
    firsts: Floats = field(eq=False)
    """Mean preference for the first position over the two orders; NaN if unparsed."""
    inconsistent: Floats = field(eq=False)
    """1 if the two orders prefer different models, otherwise 0."""
    left_words: Floats = field(eq=False)
    """Length of the left model's answer in words."""
    right_words: Floats = field(eq=False)
    """Length of the right model's answer in words."""

    @classmethod
    def of(cls, contests: Iterable[Contest], verdicts: Iterable[Verdict], models: Sequence[str] = ()) -> Bouts:
        """Join verdicts to their contests by comparison id.

        Of two models, the left one comes first in ``models``; models that are not in it follow, sorted by name. Raises
        ``InputError`` if a verdict belongs to no contest or occurs twice, if a contest occurs twice or in one order
        only, or if a preference is outside 0 to 1.
        """
        import numpy as np

        bouts = _bouts(list(contests), _preferences(verdicts))
        named = {name for contest, *_ in bouts for name in (contest.first, contest.second)}
        order = tuple(dict.fromkeys([*(name for name in models if name in named), *sorted(named)]))
        position = {name: number for number, name in enumerate(order)}
        clusters = Clusters.of((contest.seed, contest.prompt_id) for contest, *_ in bouts)
        sides = [(position[contest.first], position[contest.second]) for contest, *_ in bouts]
        pairs = tuple(sorted({(min(side), max(side)) for side in sides}))
        number = {pair: column for column, pair in enumerate(pairs)}
        swapped = np.array([first > second for first, second in sides], bool)
        one, other = (np.array([bout[order_] for bout in bouts], float) for order_ in (1, 2))
        words = [
            np.array([getattr(bout[0], name) for bout in bouts], float) for name in ("first_words", "second_words")
        ]
        return cls(
            clusters=clusters,
            models=order,
            pairs=pairs,
            cluster=np.array([clusters.index[contest.seed, contest.prompt_id] for contest, *_ in bouts], int),
            pair=np.array([number[min(side), max(side)] for side in sides], int),
            outcome=_outcomes(np.where(swapped, other, one), np.where(swapped, one, other)),
            firsts=(one + other) / 2,
            inconsistent=((one - 0.5) * (other - 0.5) > 0).astype(float),
            left_words=np.where(swapped, words[1], words[0]),
            right_words=np.where(swapped, words[0], words[1]),
        )

    def columns(self, values: Floats | Integers) -> Floats:
        """Sum values (one per bout) by cluster and pair: shape (bouts,) to (clusters, pairs)."""
        import numpy as np

        shape = (len(self.clusters.keys), len(self.pairs))
        cells = self.cluster * shape[1] + self.pair
        return np.bincount(cells, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(float)

    def totals(self, values: Floats | Integers) -> Floats:
        """Sum values (one per bout) by cluster, over all pairs: shape (bouts,) to (clusters, 1)."""
        import numpy as np

        return np.bincount(self.cluster, weights=values, minlength=len(self.clusters.keys)).astype(float)[:, None]


def _preferences(verdicts: Iterable[Verdict]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for verdict in verdicts:
        preference = verdict.preference
        if verdict.comparison_id in found:
            raise InputError(f"verdict {verdict.id} occurs twice; give one verdict per comparison")
        if preference is not None and not 0 <= preference <= 1:
            raise InputError(f"verdict {verdict.id}: its preference {preference} is not between 0 and 1")
        found[verdict.comparison_id] = preference
    return found


def _bouts(contests: Sequence[Contest], preferences: Mapping[str, float | None]) -> list[_Bout]:
    """Join the two orders of each pair of answers, sorted by cluster and model names."""
    if unknown := preferences.keys() - {contest.comparison_id for contest in contests}:
        raise InputError(
            f"verdict {min(unknown)} belongs to no comparison ({len(unknown)} such verdicts); add its contest"
        )
    orders: dict[tuple[Cluster, str, str], Contest] = {}
    for contest in contests:
        key = ((contest.seed, contest.prompt_id), contest.first, contest.second)
        if key in orders:
            raise InputError(
                f"comparison {contest.comparison_id}: another comparison has the same models, prompt, seed and order"
            )
        if contest.first == contest.second:
            raise InputError(f"comparison {contest.comparison_id}: {contest.first} is compared with itself")
        orders[key] = contest
    bouts: list[_Bout] = []
    for (cluster, first, second), contest in sorted(orders.items(), key=lambda item: item[0]):
        other = orders.get((cluster, second, first))
        if other is None:
            raise InputError(
                f"comparison {contest.comparison_id}: the other order of its two answers is missing; give both orders"
            )
        if first < second:
            bouts.append((contest, preferences.get(contest.comparison_id), preferences.get(other.comparison_id)))
    return bouts


def _outcomes(left_first: Floats, right_first: Floats) -> Integers:
    """Outcomes for the left model, from the preferences for the first answer with left first and with right first."""
    import numpy as np

    win = (left_first > 0.5) & (right_first < 0.5)
    loss = (left_first < 0.5) & (right_first > 0.5)
    unparsed = np.isnan(left_first) | np.isnan(right_first)
    return np.select([unparsed, win, loss], [UNPARSED, WIN, LOSS], TIE)
