"""Causal attention over concatenated sequences, each of which attends to itself alone.

On a GPU of compute capability 8 or higher, in half precision, it is ``torch.nn.attention.varlen``. Elsewhere, and for
models that cap their attention scores, it is computed sequence by sequence.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from attrs import frozen

from tutelage_transformers.devices.selection import is_nvidia

_LAYER_TYPES = {"full_attention", "sliding_attention"}
"""Kinds of layers that ``attend`` computes, by transformers' names."""


@frozen(eq=False)
class Segments:
    """Where the sequences are. The last query of a sequence has the position of its last key."""

    starts: Any
    """(sequences + 1,) int32: the start of each sequence among the queries, and the end of the last."""
    key_starts: Any
    """As ``starts``, among the keys."""
    longest: int
    """Number of queries of the longest sequence."""
    longest_keys: int
    """As ``longest``, of keys."""


@frozen
class Scores:
    """How the score of a query and a key is computed, which may differ from layer to layer."""

    scale: float
    """Factor of the dot product."""
    window: int | None = None
    """A query attends to at most this number of keys: the last ones up to its own. None: to all up to its own."""
    cap: float | None = None
    """Scores are limited to this absolute value by ``cap * tanh(score / cap)`` (Gemma 2 report, section 2)."""


def scores_of(
    head_size: int, scaling: float | None = None, sliding_window: int | None = None, softcap: float | None = None
) -> Scores:
    """Return the scores of a layer by the arguments that transformers passes to its attention."""
    return Scores(head_size**-0.5 if scaling is None else scaling, sliding_window or None, softcap or None)


def attend(queries: Any, keys: Any, values: Any, segments: Segments, scores: Scores) -> Any:
    """Attend with ``queries`` (tokens, heads, size) over ``keys`` and ``values`` (all tokens, kv_heads, size).

    ``kv_heads`` is ``heads`` or a divisor of it. Returns the shape of ``queries``.
    """
    if _has_kernel(values, scores):
        return _by_kernel(queries, keys, values, segments, scores)
    keys, values = (repeat_heads(states, queries.shape[1]) for states in (keys, values))
    return _by_sequence(queries, keys, values, segments, scores)


def repeat_heads(states: Any, heads: int) -> Any:
    """Return keys or values (tokens, kv_heads, size) with each head repeated for its group of ``heads`` queries."""
    group = heads // states.shape[1]
    return states.repeat_interleave(group, dim=1) if group > 1 else states


def unsupported_reason(model: Any) -> str | None:
    """Return why ``attend`` cannot replace this model's attention, or None if it computes the same."""
    config = model.config.get_text_config()
    if not model._supports_attention_backend:
        return "transformers runs it with attention of its own"
    if other := sorted(set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES):
        return f"it has layers of the type {other[0]}"
    if getattr(config, "use_bidirectional_attention", None):
        return "its tokens attend to later ones"
    if getattr(config, "num_kv_shared_layers", None):
        return "its layers share keys and values"
    return None


def _has_kernel(values: Any, scores: Scores) -> bool:
    """Return whether torch's kernel, which is flash attention, supports type and size of these values, and the GPU."""
    import torch

    if scores.cap is not None or values.dtype.itemsize != 2 or not is_nvidia(values.device):
        return False
    if scores.window is not None and "window_size" not in _parameters():
        return False
    return bool(values.shape[-1] <= 256 and torch.cuda.get_device_capability(values.device) >= (8, 0))


def _by_kernel(queries: Any, keys: Any, values: Any, segments: Segments, scores: Scores) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    options: dict[str, Any] = {}
    usual = queries.shape[-1] ** -0.5
    if "scale" in _parameters():
        options["scale"] = scores.scale
    elif abs(scores.scale - usual) > 1e-9:
        queries = queries * (scores.scale / usual)
    if "enable_gqa" in _parameters():
        options["enable_gqa"] = keys.shape[1] != queries.shape[1]
    else:
        keys, values = (repeat_heads(states, queries.shape[1]) for states in (keys, values))
    if "window_size" in _parameters():
        options["window_size"] = (-1 if scores.window is None else scores.window - 1, 0)
    else:
        options["is_causal"] = True
    return varlen_attn(
        queries.contiguous(),
        keys.contiguous(),
        values.contiguous(),
        segments.starts,
        segments.key_starts,
        segments.longest,
        segments.longest_keys,
        **options,
    )


@cache
def _parameters() -> frozenset[str]:
    """Return the names of the kernel's arguments, which differ among versions of torch."""
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def _by_sequence(queries: Any, keys: Any, values: Any, segments: Segments, scores: Scores) -> Any:
    import torch

    lengths, key_lengths = (places.diff().tolist() for places in (segments.starts, segments.key_starts))
    parts = queries.split(lengths), keys.split(key_lengths), values.split(key_lengths)
    return torch.cat([attend_one(*sequence, scores) for sequence in zip(*parts, strict=True)])


def attend_one(query: Any, key: Any, value: Any, scores: Scores) -> Any:
    """Attend within one sequence: ``query`` (tokens, heads, size) over keys and values (all tokens, heads, size)."""
    import torch

    mask = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device).tril(len(key) - len(query))
    if scores.window is not None:
        mask = mask.triu(len(key) - len(query) - scores.window + 1)
    query, key, value = (states.transpose(0, 1) for states in (query, key, value))
    if scores.cap is None:
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, attn_mask=mask, scale=scores.scale).transpose(0, 1)
    capped = scores.cap * torch.tanh(query @ key.transpose(1, 2) * scores.scale / scores.cap)
    weights = torch.softmax(capped.masked_fill(~mask, -torch.inf).float(), -1).to(value.dtype)
    return (weights @ value).transpose(0, 1)
