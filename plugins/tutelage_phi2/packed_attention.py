"""Causal attention over one row that holds many sequences, each of which sees itself alone.

On a GPU in half precision it is ``torch.nn.attention.varlen``, elsewhere torch's ``scaled_dot_product_attention``,
sequence by sequence. transformers finds it by name through its ``AttentionInterface``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

NAME = "tutelage_packed"
"""The name under which transformers knows this attention."""


def register() -> None:
    """Tell transformers of this attention. To do so again changes nothing."""
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    packing: Mapping[str, Any],
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attention in the form that transformers asks for; ``packing`` is what ``packing.plan`` made.

    ``query`` is (1, heads, tokens, size), ``key`` and ``value`` have as many heads or a divisor of it; the result is
    (1, tokens, heads, size). There is no mask: the starts of the sequences are all that is needed.
    """
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    groups = queries.shape[1] // keys.shape[1]
    if groups > 1:
        keys, values = (states.repeat_interleave(groups, dim=1) for states in (keys, values))
    if "keys" in packing:
        keys, values = (with_prefixes(states, packing) for states in (keys, values))
    scale = queries.shape[-1] ** -0.5 if scaling is None else scaling
    # a float32 rotation makes float32 of what autocast made half; the values are not rotated and tell the true type
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    across = _by_kernel if values.is_cuda and values.dtype.itemsize == 2 else _by_sequence
    return across(queries, keys, values, packing, scale)[None], None


def _by_kernel(queries: Any, keys: Any, values: Any, packing: Mapping[str, Any], scale: float) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    usual = queries.shape[-1] ** -0.5
    if abs(scale - usual) > 1e-9:  # not every version of torch takes a scale
        queries = queries * (scale / usual)
    return varlen_attn(
        queries,
        keys,
        values,
        packing["starts"],
        packing["key_starts"],
        packing["longest"],
        packing["longest_keys"],
        **_causal(),
    )


@cache
def _causal() -> dict[str, Any]:
    """How this version of torch is told that attention is causal."""
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" in inspect.signature(varlen_attn).parameters:
        return {"window_size": (-1, 0)}
    return {"is_causal": True}


def _by_sequence(queries: Any, keys: Any, values: Any, packing: Mapping[str, Any], scale: float) -> Any:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    lengths = [packing[name].diff().tolist() for name in ("starts", "key_starts")]
    parts = []
    for query, key, value in zip(
        queries.split(lengths[0]), keys.split(lengths[1]), values.split(lengths[1]), strict=True
    ):
        seen, all_keys = len(query), len(key)
        mask = torch.ones(seen, all_keys, dtype=torch.bool, device=query.device).tril(all_keys - seen)
        query, key, value = (states.transpose(0, 1) for states in (query, key, value))
        parts.append(scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale).transpose(0, 1))
    return torch.cat(parts)


def with_prefixes(states: Any, packing: Mapping[str, Any]) -> Any:
    """Keys or values (tokens, heads, size) with each shared prefix repeated before the sequences that continue it."""
    return _prefixes().apply(states, packing["keys"], packing["own"], packing["copied"])


@cache
def _prefixes() -> type[Any]:
    import torch

    class Prefixes(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
        """``index_select`` whose backward adds up, slowly, only what was repeated."""

        @staticmethod
        def forward(context: Any, states: Any, keys: Any, own: Any, copied: Any) -> Any:
            context.save_for_backward(keys, own, copied)
            return states.index_select(0, keys)

        @staticmethod
        def backward(context: Any, gradient: Any) -> tuple[Any, None, None, None]:
            keys, own, copied = context.saved_tensors
            total = gradient.index_select(0, own)
            total.index_add_(0, keys.index_select(0, copied), gradient.index_select(0, copied))
            return total, None, None, None

    return Prefixes
