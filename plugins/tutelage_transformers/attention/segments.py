"""Causal attention over concatenated sequences, each of which attends to itself alone.

On a GPU of compute capability 8 or higher, in half precision, it is ``torch.nn.attention.varlen``. Elsewhere it is
torch's ``scaled_dot_product_attention``, sequence by sequence.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from tutelage_transformers.devices.selection import is_nvidia


def attend(
    queries: Any, keys: Any, values: Any, starts: Any, key_starts: Any, longest: int, longest_keys: int, scale: float
) -> Any:
    """Attend with ``queries`` (tokens, heads, size) over ``keys`` and ``values`` (all tokens, kv_heads, size).

    ``kv_heads`` is ``heads`` or a divisor of it. ``starts`` and ``key_starts`` (sequences + 1,) int32 are the starts of
    the sequences among queries and keys, and the end of the last. The last query of a sequence has the position of its
    last key. ``longest`` and ``longest_keys`` are the lengths of the longest sequence. Returns the shape of
    ``queries``.
    """
    group = queries.shape[1] // keys.shape[1]
    if group > 1:
        keys, values = (states.repeat_interleave(group, dim=1) for states in (keys, values))
    if _has_kernel(values):
        return _by_kernel(queries, keys, values, starts, key_starts, longest, longest_keys, scale)
    return _by_sequence(queries, keys, values, starts, key_starts, scale)


def unsupported_reason(model: Any) -> str | None:
    """Return why ``attend`` cannot replace this model's attention, or None if it computes the same."""
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
    """Return whether torch's kernel, which is flash attention, supports the type and the GPU of these values."""
    import torch

    return bool(
        is_nvidia(values.device)
        and values.dtype.itemsize == 2
        and torch.cuda.get_device_capability(values.device) >= (8, 0)
    )


def _by_kernel(
    queries: Any, keys: Any, values: Any, starts: Any, key_starts: Any, longest: int, longest_keys: int, scale: float
) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    usual = queries.shape[-1] ** -0.5
    if abs(scale - usual) > 1e-9:  # not every version of torch has a scale argument
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
    """Return the arguments that make attention causal in this version of torch."""
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
    """Attend within one sequence: ``query`` (tokens, heads, size) over keys and values (all tokens, heads, size)."""
    import torch

    mask = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device).tril(len(key) - len(query))
    query, key, value = (states.transpose(0, 1) for states in (query, key, value))
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return attended.transpose(0, 1)
