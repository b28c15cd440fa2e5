"""Which of two models answers better, from verdicts in both orders.

Evaluators favour a place (Wang et al., 2023, "Large Language Models are not Fair Evaluators"), so each pair of answers
is judged in both orders: a win is a win in both, a disagreement is a tie. Then a bias of the evaluator for one place
cancels out of the win rate, and is measured for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve, frozen

from tutelage.evaluation.bradley_terry import Strength, connected, rank
from tutelage.evaluation.contests import LOSS, TIE, UNPARSED, WIN, Bouts, Contest
from tutelage.evaluation.intervals import (
    DEFAULT,
    Bootstrap,
    Floats,
    Metric,
    ratio_metrics,
)
from tutelage.records import Verdict


@frozen
class PairResult:
    """Two models over all prompts on which both were compared."""

    left: str
    right: str
    wins: int
    """Prompts on which left was preferred in both orders."""
    ties: int
    """Prompts on which neither was preferred, or another one in each order."""
    losses: int
    unparsed: int
    """Prompts on which a verdict of either order is missing or could not be read."""
    n: int
    """All of these prompts."""
    win_rate: Metric
    """(wins + ties / 2) / parsed prompts; n counts the parsed ones, here and in the shares."""
    win_share: Metric
    tie_share: Metric
    loss_share: Metric

    def flipped(self) -> PairResult:
        """The same result seen from the other side."""
        rate = self.win_rate
        return evolve(
            self,
            left=self.right,
            right=self.left,
            wins=self.losses,
            losses=self.wins,
            win_rate=Metric(_complement(rate.value), _complement(rate.high), _complement(rate.low), rate.n),
            win_share=self.loss_share,
            loss_share=self.win_share,
        )


@frozen
class HeadToHead:
    """All results among some models, and what the evaluator's verdicts depend on besides the answers."""

    pairs: tuple[PairResult, ...]
    position_bias: Metric
    """Mean preference for the first place, less 0.5: 0.2 is 20 points too many for whatever stands first."""
    inconsistent: Metric
    """Share of parsed prompts whose two orders prefer different answers."""
    winner_words: Metric
    """Mean length of the answers that won, over decided prompts."""
    loser_words: Metric
    longer_wins: Metric
    """Share of decided prompts with answers of different length in which the longer one won."""
    ranking: tuple[Strength, ...]
    """Bradley-Terry, strongest first. Empty where the parsed pairs do not link all models with one another."""


def head_to_head(
    contests: Iterable[Contest],
    verdicts: Iterable[Verdict],
    models: Sequence[str] = (),
    bootstrap: Bootstrap = DEFAULT,
) -> HeadToHead:
    """Summarise verdicts, joined to their contests by comparison id.

    ``models`` gives the order in which models are named: left is the one that comes first in it (sorted by default).
    Intervals resample prompts, and seeds where there are several. Raises ``InputError`` where contests and verdicts do
    not fit together (see ``Bouts.of``).
    """
    bouts = Bouts.of(contests, verdicts, models)
    wins = bouts.columns(bouts.outcome == WIN)
    ties = bouts.columns(bouts.outcome == TIE)
    losses = bouts.columns(bouts.outcome == LOSS)
    return HeadToHead(
        pairs=_pair_results(bouts, wins, ties, losses, bootstrap),
        **_evaluator_metrics(bouts, bootstrap),
        ranking=_ranking(bouts, wins + ties / 2, losses + ties / 2, bootstrap),
    )


def _pair_results(
    bouts: Bouts, wins: Floats, ties: Floats, losses: Floats, bootstrap: Bootstrap
) -> tuple[PairResult, ...]:
    import numpy as np

    parsed = wins + ties + losses
    parts = np.concatenate([wins + ties / 2, wins, ties, losses], axis=1)
    measured = ratio_metrics(parts, np.tile(parsed, 4), bouts.clusters, bootstrap, proportion=True)
    unparsed = bouts.columns(bouts.outcome == UNPARSED).sum(axis=0)
    count = len(bouts.pairs)
    return tuple(
        PairResult(
            left=bouts.models[left],
            right=bouts.models[right],
            wins=int(wins[:, column].sum()),
            ties=int(ties[:, column].sum()),
            losses=int(losses[:, column].sum()),
            unparsed=int(unparsed[column]),
            n=int(parsed[:, column].sum() + unparsed[column]),
            win_rate=measured[column],
            win_share=measured[count + column],
            tie_share=measured[2 * count + column],
            loss_share=measured[3 * count + column],
        )
        for column, (left, right) in enumerate(bouts.pairs)
    )


def _evaluator_metrics(bouts: Bouts, bootstrap: Bootstrap) -> dict[str, Metric]:
    """Position bias, disagreement between the orders, and what length has to do with winning."""
    import numpy as np

    parsed = (bouts.outcome != UNPARSED).astype(float)
    decided = ((bouts.outcome == WIN) | (bouts.outcome == LOSS)).astype(float)
    left_won = bouts.outcome == WIN
    winner = np.where(left_won, bouts.left_words, bouts.right_words) * decided
    loser = np.where(left_won, bouts.right_words, bouts.left_words) * decided
    uneven = decided * (bouts.left_words != bouts.right_words)
    bias = np.nan_to_num(bouts.firsts - 0.5) * parsed

    def measure(values: Floats, units: Floats, proportion: bool = False) -> Metric:
        sums = bouts.totals(values), bouts.totals(units)
        return ratio_metrics(*sums, bouts.clusters, bootstrap, proportion=proportion)[0]

    return {
        "position_bias": measure(bias, parsed),
        "inconsistent": measure(bouts.inconsistent * parsed, parsed, proportion=True),
        "winner_words": measure(winner, decided),
        "loser_words": measure(loser, decided),
        "longer_wins": measure((winner > loser) * uneven, uneven, proportion=True),
    }


def _ranking(bouts: Bouts, won: Floats, lost: Floats, bootstrap: Bootstrap) -> tuple[Strength, ...]:
    """``won`` and ``lost`` by left, ties being half of each: shape (clusters, pairs)."""
    import numpy as np

    size = len(bouts.models)
    lefts, rights = np.array(bouts.pairs, int).reshape(-1, 2).T
    met = np.zeros((size, size), bool)
    met[lefts, rights] = (won + lost).sum(axis=0) > 0
    if not connected(met):
        return ()
    weights = np.concatenate([np.ones((1, len(bouts.clusters.keys))), bouts.clusters.weights(bootstrap)])
    wins = np.zeros((len(weights), size, size))
    wins[:, lefts, rights] = weights @ won
    wins[:, rights, lefts] = weights @ lost
    return rank(bouts.models, wins[0], wins[1:], bootstrap)


def _complement(value: float | None) -> float | None:
    return None if value is None else round(1 - value, 10)
