"""Mixtures of experts in training: the loss on the balance of their experts, which TRL computes from router logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BALANCE_SETTINGS = ("output_router_logits", "router_aux_loss_coef")


def balance_coefficient(model: Any) -> float | None:
    """Return the coefficient of the balance loss for TRL: None for the model's own, 0 if TRL cannot compute the loss.

    TRL 1.16 reads ``num_experts`` and ``num_experts_per_tok``. Some families name them otherwise (``num_local_experts``
    of Granite and Phi), and some have the keys of experts without having experts.
    """
    config = model.config.get_text_config()
    if not hasattr(config, "output_router_logits"):
        return None
    routed = any("Router" in type(module).__name__ for module in model.modules()) or any(
        name.rpartition(".")[2] in ("gate", "router", "experts") for name, _ in model.named_modules()
    )
    has_numbers = hasattr(config, "num_experts") and hasattr(config, "num_experts_per_tok")
    return None if has_numbers and routed else 0.0


@contextmanager
def kept_settings(model: Any) -> Iterator[None]:
    """Keep the settings of a mixture of experts in the model's configuration, which TRL's SFT trainer replaces.

    TRL asks for router logits in each step. Saved with a checkpoint, its settings would make generation compute the
    balance loss.
    """
    config = model.config.get_text_config()
    before = {name: getattr(config, name) for name in _BALANCE_SETTINGS if hasattr(config, name)}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def spread_router_logits(output: Any, packing: dict[str, Any], attention_mask: Any) -> None:
    """Put the router logits of packed tokens where TRL expects those of the padded batch (rows * width, experts).

    Each token that two sequences share counts in both, as it does in a padded batch. Changes ``output``, the result of
    the model below the head; does nothing if it has no router logits. ``attention_mask`` is (rows, width).
    """
    logits = getattr(output, "router_logits", None)
    if not logits:
        return
    places = attention_mask.flatten().nonzero().squeeze(-1)
    output.router_logits = tuple(_spread(layer, packing, places, attention_mask.numel()) for layer in logits)


def _spread(logits: Any, packing: dict[str, Any], places: Any, tokens: int) -> Any:
    if "keys" in packing:
        logits = logits.index_select(0, packing["keys"])
    return logits.new_zeros(tokens, logits.shape[-1]).index_copy(0, places, logits)
