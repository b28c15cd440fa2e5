"""Losses of preference pairs that TRL's DPO trainer does not have: SimPO, CPO and ORPO.

None of them reads the reference. They are those of ``trl.experimental`` (1.16): CPO and SimPO of ``CPOTrainer``, ORPO
of ``ORPOTrainer``, except that ORPO's likelihood term is that of the answer alone, as in the paper; TRL's includes the
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from tutelage.objectives import Dpo, PairBatch, PairLoss


@frozen
class SimPo:
    """Settings of SimPO."""

    gamma: float = 0.5
    """Target margin between the rewards of the two answers. The paper uses gamma / beta from 0.3 to 1.6."""


@frozen
class Cpo:
    """Settings of CPO."""

    alpha: float = 1.0
    """Weight of the negative log-likelihood of the chosen answers, per token."""


def simpo(batch: PairBatch, settings: SimPo) -> Any:
    """Meng et al., 2024, eq. 6: the rewards are the mean log-probabilities of the tokens, times beta."""
    from torch.nn.functional import logsigmoid

    chosen, rejected = _means(batch)
    return -logsigmoid(batch.beta * (chosen - rejected) - settings.gamma)


def cpo(batch: PairBatch, settings: Cpo) -> Any:
    """Xu et al., 2024, eq. 5: DPO with a uniform reference, and the likelihood of the chosen answers."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(batch.beta * (batch.chosen - batch.rejected)) + settings.alpha * _likelihood(batch)


def orpo(batch: PairBatch, settings: None) -> Any:
    """Hong et al., 2024, eq. 6 and 7: the likelihood of the chosen answers, and beta times that of the odds ratio."""
    from torch.nn.functional import logsigmoid

    chosen, rejected = (mean.float() for mean in _means(batch))
    log_odds = chosen - rejected - (_log1mexp(chosen) - _log1mexp(rejected))
    return _likelihood(batch) - batch.beta * logsigmoid(log_odds)


def _means(batch: PairBatch) -> tuple[Any, Any]:
    return batch.chosen / batch.chosen_tokens, batch.rejected / batch.rejected_tokens


def _likelihood(batch: PairBatch) -> Any:
    """The negative log-likelihood of the chosen answers; its mean over the pairs is the mean over all their tokens."""
    return -batch.chosen * len(batch.chosen) / batch.chosen_tokens.sum()


def _log1mexp(x: Any) -> Any:
    """Return log(1 - exp(x)) of numbers below 0, without cancellation (Maechler, 2012)."""
    import torch

    return torch.where(x < -math.log(2), torch.log1p(-torch.exp(x)), torch.log(-torch.expm1(x)))


def _check_simpo(objective: Dpo, settings: SimPo) -> Iterator[str]:
    if not settings.gamma >= 0:
        yield f"loss_settings.gamma: {settings.gamma}; it must be a number of at least 0"


def _check_cpo(objective: Dpo, settings: Cpo) -> Iterator[str]:
    if not settings.alpha >= 0:
        yield f"loss_settings.alpha: {settings.alpha}; it must be a number of at least 0"


LOSSES: Mapping[str, PairLoss] = {
    "simpo": PairLoss(simpo, "SimPO: margins of mean log-probabilities.", SimPo, check=_check_simpo),
    "cpo": PairLoss(cpo, "CPO: DPO without a reference, plus likelihood.", Cpo, check=_check_cpo),
    "orpo": PairLoss(orpo, "ORPO: likelihood plus the odds ratio."),
}
"""The losses that the plugin offers."""
