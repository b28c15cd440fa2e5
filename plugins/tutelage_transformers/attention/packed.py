"""Attention of a packed batch: ``segments``, which transformers finds by name through its ``AttentionInterface``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tutelage_transformers.attention import segments

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
    if "keys" in packing:
        keys, values = (with_prefixes(states, packing) for states in (keys, values))
    # a float32 rotation makes float32 of what autocast made half; the values are not rotated and tell the true type
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    attended = segments.attend(
        queries,
        keys,
        values,
        packing["starts"],
        packing["key_starts"],
        packing["longest"],
        packing["longest_keys"],
        queries.shape[-1] ** -0.5 if scaling is None else scaling,
    )
    return attended[None], None


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
