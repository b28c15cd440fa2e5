"""Attention of a packed batch, which transformers finds by its name through ``AttentionInterface``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tutelage_transformers.attention import segments

NAME = "tutelage_packed"
"""The name under which transformers knows this attention."""


def register() -> None:
    """Register this attention with transformers. Calling it again changes nothing."""
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
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Implement transformers' attention interface; ``packing`` is the result of ``packing.plan``.

    ``query`` is (1, heads, tokens, size). ``key`` and ``value`` have as many heads or a divisor of that number. Returns
    (1, tokens, heads, size). No mask is needed: the starts of the sequences and the layer's window define it.
    """
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    if "keys" in packing:
        keys, values = (with_prefixes(states, packing) for states in (keys, values))
    # a float32 rotation turns autocast's half precision into float32; values are not rotated and keep their type
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    places = segments.Segments(packing["starts"], packing["key_starts"], packing["longest"], packing["longest_keys"])
    scores = segments.scores_of(queries.shape[-1], scaling, sliding_window, softcap)
    return segments.attend(queries, keys, values, places, scores)[None], None


def with_prefixes(states: Any, packing: Mapping[str, Any]) -> Any:
    """Return keys or values (tokens, heads, size) with shared prefixes repeated for every sequence that has one."""
    return _prefixes().apply(states, packing["keys"], packing["own"], packing["copied"])


@cache
def _prefixes() -> type[Any]:
    import torch

    class Prefixes(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
        """``index_select`` whose backward pass accumulates only the repeated rows, because accumulating is slow."""

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
