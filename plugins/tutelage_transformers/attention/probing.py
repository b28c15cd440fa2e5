"""How a model calls its attention, found by one pass over two tokens. A configuration does not say all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen

_NAME = "tutelage_probe"
_TOKENS = 2


@frozen
class AttentionCall:
    """One call of the attention of a layer."""

    layer: int | None
    """Index of the layer; None if it does not name it."""
    kv_heads: int
    key_size: int
    value_size: int
    window: int | None
    """Number of keys that a query attends to; None if that is not limited."""
    terms: tuple[str, ...]
    """Names of tensors that change the attention scores: a mask of the model's own, sinks, biases."""


_KNOWN_TENSORS = ("position_ids", "cache_position")
"""Arguments of attention that do not change its scores."""

_known: WeakKeyDictionary[Any, tuple[AttentionCall, ...] | None] = WeakKeyDictionary()


def attention_calls(model: Any) -> tuple[AttentionCall, ...] | None:
    """Return the calls of one forward pass, in their order.

    None if the model does not pass a keyword argument of its ``forward`` on to its attention.
    """
    if model not in _known:
        _known[model] = _probe(model)
    return _known[model]


def unsupported_reason(model: Any) -> str | None:
    """Return why another attention cannot replace that of the model, although it takes one, or None if it can."""
    calls = attention_calls(model)
    if calls is None:
        return "transformers does not pass a batch's description on to its attention"
    layers = [call.layer for call in calls]
    if None in layers or len(set(layers)) < len(layers):
        return "one of its layers attends more than once"
    if terms := sorted({term for call in calls for term in call.terms}):
        return f"its attention scores have terms of their own ({', '.join(terms)})"
    if any(call.key_size != call.value_size for call in calls):
        return "its keys and its values have different sizes"
    config = model.config.get_text_config()
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if slides and getattr(config, "sliding_window", None) and not any(call.window for call in calls):
        return "transformers does not pass the window of its layers on to its attention"
    return None


def has_shape(model: Any, shape: Sequence[int]) -> bool:
    """Return whether each of the model's layers has keys and values of ``shape`` (layers, kv_heads, head_dim)."""
    layers, heads, size = shape
    calls = attention_calls(model) or ()
    return len(calls) == layers and all((call.kv_heads, call.key_size) == (heads, size) for call in calls)


def _probe(model: Any) -> tuple[AttentionCall, ...] | None:
    import torch
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    before, training = model.config._attn_implementation, model.training
    calls: list[AttentionCall] = []
    ids = torch.zeros(1, _TOKENS, dtype=torch.long, device=model.device)
    model.eval().set_attn_implementation(_NAME)
    try:
        with torch.no_grad():
            model(
                input_ids=ids,
                position_ids=torch.arange(_TOKENS, device=model.device)[None],
                use_cache=False,
                tutelage_calls=calls,
            )
    except TypeError:  # the argument was not passed on
        return None
    finally:
        model.set_attn_implementation(before)
        model.train(training)
    return tuple(calls)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    tutelage_calls: list[AttentionCall],
    **more: Any,
) -> tuple[Any, None]:
    """Record the call, and return zeros (1, tokens, heads, value_size)."""
    import torch

    named = {"attention_mask": attention_mask, **more}
    terms = [name for name, term in named.items() if isinstance(term, torch.Tensor) and name not in _KNOWN_TENSORS]
    layer = getattr(module, "layer_idx", None)
    tutelage_calls.append(
        AttentionCall(layer, key.shape[1], key.shape[3], value.shape[3], more.get("sliding_window"), tuple(terms))
    )
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None
