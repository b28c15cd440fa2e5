"""The loss of a batch of pairs beyond TRL's: weights and soft labels of pairs, and the losses of plugins.

TRL's function computes its own losses and all metrics. What is added here is computed from the same log-probabilities,
which are kept when TRL calls the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.errors import PluginError
from tutelage.objectives import PairBatch, PairLoss
from tutelage_transformers.training import pair_labels


@frozen
class WeightedLoss:
    """The loss of a plugin, with its weight in the sum of losses."""

    name: str
    loss: PairLoss
    weight: float


def loss_of_batch(
    trainer: Any, losses: Sequence[WeightedLoss], compute: Callable[..., Any], model: Any, inputs: Mapping[str, Any]
) -> Any:
    """Return the loss of a batch: that of ``compute``, TRL's own function, with soft labels, and the plugins' losses.

    The gradient of the whole loss is weighted pair by pair, as ``pair_labels`` describes.
    """
    trl_inputs, labels = pair_labels.split(inputs)
    seen: list[Any] = []

    def observed(*arguments: Any, **options: Any) -> Any:
        outputs = model(*arguments, **options)
        if "weight" in labels and outputs.log_probs.requires_grad:
            outputs.log_probs.register_hook(lambda gradient: gradient * _of_rows(labels["weight"], gradient))
        seen.append(outputs.log_probs)
        return outputs

    loss = compute(observed, trl_inputs, return_outputs=False)
    batch = _batch(seen[0], inputs, trainer.beta)
    if "probability" in labels and "sigmoid" in trainer.loss_types:
        factor = dict(zip(trainer.loss_types, trainer.loss_weights, strict=True))["sigmoid"]
        chosen, rejected = batch.chosen - batch.reference_chosen, batch.rejected - batch.reference_rejected
        loss = loss + factor * ((1 - batch.probability) * batch.beta * (chosen - rejected)).mean()
    for one in losses:
        loss = loss + one.weight * _of_pairs(one, batch).mean()
    return loss


def _batch(logps: Any, inputs: Mapping[str, Any], beta: float) -> PairBatch:
    """Return the sums of the tokens' log-probabilities (rows, width - 1), which are 0 outside the answers."""
    chosen, rejected = logps.sum(dim=1).chunk(2)
    chosen_tokens, rejected_tokens = inputs["completion_mask"][:, 1:].sum(dim=1).chunk(2)
    return PairBatch(
        chosen=chosen,
        rejected=rejected,
        reference_chosen=inputs["ref_chosen_logps"],
        reference_rejected=inputs["ref_rejected_logps"],
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
        probability=inputs.get("probability", chosen.new_ones(len(chosen))),
        beta=beta,
    )


def _of_pairs(one: WeightedLoss, batch: PairBatch) -> Any:
    return checked_loss(f"pair loss {one.name}", one.loss.function(batch), batch.chosen, "pair")


def checked_loss(label: str, found: Any, like: Any, unit: str) -> Any:
    """Return the result of a loss of a plugin.

    Raises ``PluginError`` if it is not a tensor of floating-point numbers of the shape of ``like``, or if it has no
    gradient and ``like`` has one.
    """
    import torch

    if not isinstance(found, torch.Tensor) or found.shape != like.shape or not found.is_floating_point():
        given = repr(found)
        if isinstance(found, torch.Tensor):
            kind = "" if found.is_floating_point() else f" and the type {str(found.dtype).removeprefix('torch.')}"
            given = f"a tensor of the shape {tuple(found.shape)}{kind}"
        raise PluginError(
            f"the {label} returned {given}; it must return the loss of each {unit}, a tensor of floating-point numbers "
            f"of the shape {tuple(like.shape)}"
        )
    if like.requires_grad and not found.requires_grad:
        raise PluginError(
            f"the {label} returned a tensor without a gradient; compute it from the log-probabilities of the policy "
            "with functions of torch only, without detach() and item()"
        )
    return found


def _of_rows(weights: Any, gradient: Any) -> Any:
    """Return the weights as a column for the rows of a batch: the chosen answers, then the rejected ones."""
    return weights.repeat(2)[:, None].to(gradient)
