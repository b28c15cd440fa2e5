"""Head-to-head comparison of models, from verdicts in both orders.

Evaluators have a position bias (Wang et al., 2023, "Large Language Models are not Fair Evaluators"). Each pair of
answers is therefore judged in both orders: an answer wins if both orders prefer it, and a disagreement is a tie. The
position bias cancels out of the win rate and is reported as a metric of its own.
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
    """The result of two models, over all prompts on which they were compared."""

    left: str
    right: str
    wins: int
    """Number of prompts on which left was preferred in both orders."""
    ties: int
    """Number of prompts on which the orders disagree or have no preference."""
    losses: int
    """Number of prompts on which right was preferred in both orders."""
    unparsed: int
    """Number of prompts on which the verdict of an order is missing or has no preference."""
    n: int
    """Number of prompts: the sum of the four counts above."""
    win_rate: Metric
    """(wins + ties / 2) / parsed prompts. n counts parsed prompts, here and in the shares."""
    win_share: Metric
    """wins / parsed prompts."""
    tie_share: Metric
    """ties / parsed prompts."""
    loss_share: Metric
    """losses / parsed prompts."""

    def flipped(self) -> PairResult:
        """Return the same result with left and right exchanged."""
        rate = self.win_rate
        return evolve(
            self,
            left=self.right,
            right=self.left,
            wins=self.losses,
            losses=self.wins,
            win_rate=Metric(
                _complement(rate.value), _complement(rate.high), _complement(rate.low), rate.n, rate.no_interval
            ),
            win_share=self.loss_share,
            loss_share=self.win_share,
        )


@frozen
class HeadToHead:
    """The results of all pairs of models, and the biases of the evaluator."""

    pairs: tuple[PairResult, ...]
    position_bias: Metric
    """Mean preference for the first position, minus 0.5; 0.2 means that the first answer gets 20 percentage points more
    than without bias. n counts parsed prompts."""
    inconsistent: Metric
    """Share of parsed prompts whose two orders prefer different answers. n counts parsed prompts."""
    winner_words: Metric
    """Mean length of the winning answers in words. n counts decided prompts (wins and losses)."""
    loser_words: Metric
    """Mean length of the losing answers in words. n counts decided prompts."""
    longer_wins: Metric
    """Share of decided prompts in which the longer answer won. n counts the decided prompts whose answers differ in
    length."""
    ranking: tuple[Strength, ...]
    """Bradley-Terry ranking, strongest first. Empty if the parsed results do not link all models with one another."""


def head_to_head(
    contests: Iterable[Contest],
    verdicts: Iterable[Verdict],
    models: Sequence[str] = (),
    bootstrap: Bootstrap = DEFAULT,
) -> HeadToHead:
    """Compute the head-to-head results of models.

    Verdicts are joined to their contests by comparison id. Of two models, the left one comes first in ``models``; by
    default the names are sorted. Intervals are over prompts, and over seeds if there are several. Raises
    ``InputError`` if contests and verdicts do not match (see ``Bouts.of``).
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
    """Position bias, disagreement between the orders, and the relation of length and winning."""
    import numpy as np

    parsed = (bouts.outcome != UNPARSED).astype(float)
    decided = ((bouts.outcome == WIN) | (bouts.outcome == LOSS)).astype(float)
    left_won = bouts.outcome == WIN
    winner = np.where(left_won, bouts.left_words, bouts.right_words) * decided
    loser = np.where(left_won, bouts.right_words, bouts.left_words) * decided
    uneven = decided * (bouts.left_words != bouts.right_words)
    firsts = np.nan_to_num(bouts.firsts) * parsed

    def measure(values: Floats, units: Floats, proportion: bool = False) -> Metric:
        sums = bouts.totals(values), bouts.totals(units)
        return ratio_metrics(*sums, bouts.clusters, bootstrap, proportion=proportion)[0]

    return {
        "position_bias": measure(firsts, parsed, proportion=True).shifted(-0.5),
        "inconsistent": measure(bouts.inconsistent * parsed, parsed, proportion=True),
        "winner_words": measure(winner, decided),
        "loser_words": measure(loser, decided),
        "longer_wins": measure((winner > loser) * uneven, uneven, proportion=True),
    }


def _ranking(bouts: Bouts, won: Floats, lost: Floats, bootstrap: Bootstrap) -> tuple[Strength, ...]:
    """The ranking. ``won`` and ``lost`` count for the left model, a tie half to each: shape (clusters, pairs)."""
    import numpy as np

    size = len(bouts.models)
    lefts, rights = np.array(bouts.pairs, int).reshape(-1, 2).T
    met = np.zeros((size, size), bool)
    met[lefts, rights] = (won + lost).sum(axis=0) > 0
    if not connected(met):
        return ()
    return rank(bouts.models, np.stack([won, lost], axis=2), bouts.clusters, bouts.pairs, bootstrap)


def _complement(value: float | None) -> float | None:
    return None if value is None else round(1 - value, 10)
