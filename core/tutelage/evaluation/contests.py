"""From contests and their verdicts to bouts: two models on one prompt, both orders brought together.

A bout is a win only where both orders prefer the same answer; where they disagree it is a tie, and where a verdict of
either order is missing or could not be read it is unparsed.
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
    """Whose answers a comparison held, and in which order: what a ``Comparison`` itself doesn't tell an evaluator."""

    comparison_id: str
    prompt_id: str
    first: str
    """The model whose answer stands first."""
    second: str
    first_words: int
    """Length of the first answer in words."""
    second_words: int
    seed: int = 0


WIN, TIE, LOSS, UNPARSED = range(4)
"""What came of a bout, for the left model."""

_Bout: TypeAlias = tuple[Contest, float | None, float | None]
"""One prompt, two models: the contest of one order, its preference, and the preference of the other order.

Preferences are for whatever stands first.
"""


@frozen
class Bouts:
    """All bouts as columns: one element a bout, seen from the left model of its pair."""

    clusters: Clusters
    models: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    """Positions in ``models`` of (left, right)."""
    cluster: Integers = field(eq=False)
    pair: Integers = field(eq=False)
    outcome: Integers = field(eq=False)
    firsts: Floats = field(eq=False)
    """Mean preference for the first place over the two orders; NaN where unparsed."""
    inconsistent: Floats = field(eq=False)
    left_words: Floats = field(eq=False)
    right_words: Floats = field(eq=False)

    @classmethod
    def of(cls, contests: Iterable[Contest], verdicts: Iterable[Verdict], models: Sequence[str] = ()) -> Bouts:
        """Join verdicts to their contests by comparison id; ``models`` says who is left: the one that comes first.

        Raises ``InputError`` where a verdict belongs to no contest or is there twice, where a contest is there twice
        or in one order only, or a preference is outside 0 to 1.
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
        """Sums of a bout's values for each cluster and pair: shape (clusters, pairs)."""
        import numpy as np

        shape = (len(self.clusters.keys), len(self.pairs))
        cells = self.cluster * shape[1] + self.pair
        return np.bincount(cells, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(float)

    def totals(self, values: Floats | Integers) -> Floats:
        """Sums of a bout's values for each cluster, whatever the pair: shape (clusters, 1)."""
        import numpy as np

        return np.bincount(self.cluster, weights=values, minlength=len(self.clusters.keys)).astype(float)[:, None]


def _preferences(verdicts: Iterable[Verdict]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for verdict in verdicts:
        preference = verdict.preference
        if verdict.comparison_id in found:
            raise InputError(f"verdict {verdict.id} is there twice; each comparison has one verdict")
        if preference is not None and not 0 <= preference <= 1:
            raise InputError(f"verdict {verdict.id}: its preference {preference} is not between 0 and 1")
        found[verdict.comparison_id] = preference
    return found


def _bouts(contests: Sequence[Contest], preferences: Mapping[str, float | None]) -> list[_Bout]:
    """Bring the two orders of each pair of answers together, in an order that follows from the ids."""
    if unknown := preferences.keys() - {contest.comparison_id for contest in contests}:
        raise InputError(f"verdict {min(unknown)} belongs to no comparison ({len(unknown)} such); give its contest too")
    orders: dict[tuple[Cluster, str, str], Contest] = {}
    for contest in contests:
        key = ((contest.seed, contest.prompt_id), contest.first, contest.second)
        if key in orders:
            raise InputError(f"comparison {contest.comparison_id}: the same models, prompt, seed and order twice")
        if contest.first == contest.second:
            raise InputError(f"comparison {contest.comparison_id}: {contest.first} is compared with itself")
        orders[key] = contest
    bouts: list[_Bout] = []
    for (cluster, first, second), contest in sorted(orders.items(), key=lambda item: item[0]):
        other = orders.get((cluster, second, first))
        if other is None:
            raise InputError(f"comparison {contest.comparison_id}: asked in one order only; a win takes both orders")
        if first < second:
            bouts.append((contest, preferences.get(contest.comparison_id), preferences.get(other.comparison_id)))
    return bouts


def _outcomes(left_first: Floats, right_first: Floats) -> Integers:
    """Outcomes for left, from the preference for the first place where left stands first and where right does."""
    import numpy as np

    win = (left_first > 0.5) & (right_first < 0.5)
    loss = (left_first < 0.5) & (right_first > 0.5)
    unparsed = np.isnan(left_first) | np.isnan(right_first)
    return np.select([unparsed, win, loss], [UNPARSED, WIN, LOSS], TIE)
