"""The stored verdicts of runs, for head-to-head results of several runs or of some of their models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from attrs import evolve, frozen

from tutelage.evaluation.contests import Contest
from tutelage.evaluation.head_to_head import HeadToHead, head_to_head
from tutelage.records import Verdict
from tutelage.results.selecting import SelectedModel


@frozen
class StoredVerdicts:
    """The stored contests between selected models, with their verdicts."""

    contests: tuple[Contest, ...]
    verdicts: tuple[Verdict, ...]
    order: tuple[str, ...]
    """The names of the models; of two models, the left one of a result comes first."""
    missing: tuple[tuple[str, str], ...]
    """The pairs of models without a stored verdict."""

    def head_to_head(self) -> HeadToHead:
        """Return the figures."""
        return head_to_head(self.contests, self.verdicts, self.order)


def stored_verdicts(models: Sequence[SelectedModel], newest_left: bool) -> StoredVerdicts:
    """Return the verdicts that the models' runs have stored. Two models of different runs have none.

    Of two models, the one that is selected first is on the left; with ``newest_left``, the later model of a run is.
    """
    contests: list[Contest] = []
    verdicts: list[Verdict] = []
    for root, results in {model.results.run.root: model.results for model in models}.items():
        names = {model.model: model.name for model in models if model.results.run.root == root}
        of_run, judged = results.contests()
        kept = {one.comparison_id: one for one in of_run if one.first in names and one.second in names}
        contests += (
            evolve(one, comparison_id=f"{root}|{id}", first=names[one.first], second=names[one.second])
            for id, one in kept.items()
        )
        verdicts += (
            evolve(one, comparison_id=f"{root}|{one.comparison_id}") for one in judged if one.comparison_id in kept
        )
    found = {frozenset((contest.first, contest.second)) for contest in contests}
    order = [model.name for model in models]
    missing = tuple(pair for pair in combinations(order, 2) if frozenset(pair) not in found)
    return StoredVerdicts(tuple(contests), tuple(verdicts), tuple(reversed(order) if newest_left else order), missing)
