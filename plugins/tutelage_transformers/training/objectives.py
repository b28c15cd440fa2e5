"""The objectives that the plugin offers beside SFT and DPO: KTO. This module imports no heavy library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar, Literal, TypeAlias

from attrs import frozen

from tutelage.objectives import SCHEDULERS, Dpo, ExampleKind, Lora, Objective, Sft
from tutelage.records import added_key

KTO = "kto"
"""The name of KTO in the plugin."""
_SINCE = (1, 16)
"""The first release of TRL whose KTO trainer precomputes the reference in the form that is used here."""
KtoLoss: TypeAlias = Literal["kto", "apo_zero_unpaired"]


@frozen
class Kto(Objective):
    """KTO: desirable and undesirable answers, unpaired (Ethayarajh et al., 2024)."""

    examples: ClassVar[ExampleKind] = "labelled"
    has_reference: ClassVar[bool] = True

    epochs: float = 1.0
    """Number of passes over the answers."""
    learning_rate: float = 5e-5
    """Peak learning rate, reached at the end of the warm-up."""
    batch_size: int = 16
    """Number of answers per optimizer step, over all devices and micro-batches."""
    micro_batch_size: int | None = None
    """Number of answers that a device computes at once (gradient accumulation), at least 2; must divide `batch_size`.
    The KL term is estimated from these answers (section 4.1), so the losses depend on it. If left out, the plugin
    chooses it: on a GPU as many as fit, otherwise the whole batch."""
    warmup_ratio: float = 0.1
    """Fraction of the optimizer steps in which the learning rate rises to its peak; at least 0 and below 1."""
    max_length: int = 1024
    """Maximum number of tokens of prompt and answer. A longer one is an error; nothing is truncated."""
    beta: float = 0.1
    """Weight of the constraint towards the reference policy: larger values keep the policy closer to it."""
    desirable_weight: float | None = None
    """Weight of the loss of desirable answers, lambda_D (section 4.2)."""
    undesirable_weight: float | None = None
    """Weight of the loss of undesirable answers, lambda_U. If both weights are left out, the more frequent label has
    the weight 1, and the other one the weight with which both labels have the same sum of weights. If one is left out,
    it is 1. The paper recommends a ratio of these sums, desirable to undesirable, from 1 to 3/2 (section 4.2, eq.
    9)."""
    loss_type: KtoLoss = "kto"
    """A loss of TRL's KTO trainer: `kto`, or `apo_zero_unpaired` (D'Oosterlinck et al., 2024), which has no KL term."""
    lora: Lora | None = None
    """LoRA adapter to train; full fine-tuning if left out."""
    seed: int = 0
    """Random seed of the training. In a run it is replaced by the current one of `seeds`."""
    lr_scheduler_type: SCHEDULERS = added_key("linear")
    """Learning rate after the warm-up, one of transformers' schedules, as in `dpo`."""
    weight_decay: float = added_key(0.0)
    """Weight decay of AdamW (Loshchilov and Hutter, 2019), of all weights except biases and norms."""
    max_grad_norm: float = added_key(1.0)
    """Maximum norm of the gradient of a step; a larger gradient is scaled down to it. 0 turns clipping off."""

    def problems(self) -> Iterator[str]:
        """Yield each problem of the settings, and of a TRL without the trainer."""
        if not (self.beta > 0 and math.isfinite(self.beta)):
            yield f"beta: {self.beta}; it must be a number above 0"
        for key in ("desirable_weight", "undesirable_weight"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                yield f"{key}: {value}; it must be a number above 0"
        for key in ("batch_size", "micro_batch_size"):
            if getattr(self, key) == 1 and self.smallest_batch > 1:
                yield f"{key}: 1; the KL term is estimated from the other answers of the batch: use at least 2"
        if (found := _trl()) and tuple(map(int, found.split(".")[:2])) < _SINCE:
            yield f"loss_type: trl {found} is installed, and KTO needs trl {'.'.join(map(str, _SINCE))}; update it"

    @property
    def smallest_batch(self) -> int:
        """Minimum number of answers that are computed at once."""
        return 2 if self.loss_type == "kto" else 1

    def weights(self, desirable: int, undesirable: int) -> tuple[float, float]:
        """Return the weights of both labels, for these numbers of answers."""
        if self.desirable_weight is not None or self.undesirable_weight is not None or not (desirable and undesirable):
            return self.desirable_weight or 1.0, self.undesirable_weight or 1.0
        return max(1.0, undesirable / desirable), max(1.0, desirable / undesirable)


def smallest_batch(objective: Objective) -> int:
    """Return the minimum number of examples that a device has to compute at once."""
    return objective.smallest_batch if isinstance(objective, Kto) else 1


def section_of(objective: Objective) -> str:
    """Return the section of the recipe with the settings of an objective, for messages."""
    known: Mapping[type, str] = {Sft: "sft", Dpo: "dpo", Kto: f"objectives.transformers/{KTO}"}
    return known.get(type(objective), type(objective).__name__)


def _trl() -> str:
    """The version of TRL; empty if it is not installed."""
    try:
        return version("trl")
    except PackageNotFoundError:
        return ""
