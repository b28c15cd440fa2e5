"""Causal attention over tokens that lie behind one another, each of which sees its own sequence alone.

On a GPU from Ampere on, in half precision, it is ``torch.nn.attention.varlen``; elsewhere it is torch's
``scaled_dot_product_attention``, sequence by sequence.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any


def attend(
    queries: Any, keys: Any, values: Any, starts: Any, key_starts: Any, longest: int, longest_keys: int, scale: float
) -> Any:
    """``queries`` (tokens, heads, size) over ``keys`` and ``values`` (all tokens, as many heads or a divisor, size).

    ``starts`` and ``key_starts`` (sequences + 1,) int32 say where each sequence starts among them, with the end; its
    last query stands at its last key. Gives the shape of ``queries``.
    """
    group = queries.shape[1] // keys.shape[1]
    if group > 1:
        keys, values = (states.repeat_interleave(group, dim=1) for states in (keys, values))
    if _has_kernel(values):
        return _by_kernel(queries, keys, values, starts, key_starts, longest, longest_keys, scale)
    return _by_sequence(queries, keys, values, starts, key_starts, scale)


def unsupported_reason(model: Any) -> str | None:
    """Why ``attend`` cannot take the place of this model's attention, or None where it computes the same."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not model._supports_attention_backend:
        return "transformers runs it with attention of its own"
    if kinds != {"full_attention"} or (getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")):
        return "not all of its layers attend to the whole sequence"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores"
    return None


def _has_kernel(values: Any) -> bool:
    """Flash attention, which is what torch's kernel is, asks for half precision and a GPU of compute capability 8."""
    import torch

    return bool(
        values.is_cuda and values.dtype.itemsize == 2 and torch.cuda.get_device_capability(values.device) >= (8, 0)
    )


def _by_kernel(
    queries: Any, keys: Any, values: Any, starts: Any, key_starts: Any, longest: int, longest_keys: int, scale: float
) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    usual = queries.shape[-1] ** -0.5
    if abs(scale - usual) > 1e-9:  # not every version of torch takes a scale
        queries = queries * (scale / usual)
    return varlen_attn(
        queries.contiguous(),
        keys.contiguous(),
        values.contiguous(),
        starts,
        key_starts,
        longest,
        longest_keys,
        **_causal(),
    )


@cache
def _causal() -> dict[str, Any]:
    """How this version of torch is told that attention is causal."""
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" in inspect.signature(varlen_attn).parameters:
        return {"window_size": (-1, 0)}
    return {"is_causal": True}


def _by_sequence(queries: Any, keys: Any, values: Any, starts: Any, key_starts: Any, scale: float) -> Any:
    import torch

    lengths, key_lengths = (places.diff().tolist() for places in (starts, key_starts))
    parts = queries.split(lengths), keys.split(key_lengths), values.split(key_lengths)
    return torch.cat([attend_one(*sequence, scale) for sequence in zip(*parts, strict=True)])


def attend_one(query: Any, key: Any, value: Any, scale: float) -> Any:
    """One sequence: (tokens, heads, size) over (all tokens, heads, size)."""
    import torch

    mask = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device).tril(len(key) - len(query))
    query, key, value = (states.transpose(0, 1) for states in (query, key, value))
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return attended.transpose(0, 1)
