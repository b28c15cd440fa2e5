"""Packed batches of few sizes: a batch is filled up with tokens that nothing attends to and whose output is dropped.

A captured step computes batches of one size only (see ``capturing``). The tokens and keys that are added are one more
sequence, of the token 0. Its output gets no gradient, so it changes neither the results of the other sequences nor the
gradients of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

_TOKEN_SIZES = 8
"""Numbers of tokens from one power of two to the next. More sizes add fewer tokens, and need more captures."""
_COPY_SIZES = 4
"""Numbers of copies up to the number of tokens. Copies cost little."""
_STEP = 64
"""Minimum difference of two sizes."""


@frozen
class Size:
    """The size of a filled batch. All batches of one size have tensors of the same shapes."""

    tokens: int
    copies: int
    """Keys that a sequence repeats from another one; 0 if no sequence does."""
    sequences: int
    """Number of sequences, including the one that is added."""
    longest: int
    """At least the number of tokens, and of keys, of each sequence."""


def size_of(packing: Mapping[str, Any], longest: int) -> Size:
    """Return the size to which a batch is filled. ``packing`` is the result of ``packing.plan``.

    ``longest`` is at least the length of each sequence, and the same for all batches of a training.
    """
    tokens, copies = len(packing["positions"]), len(packing["copied"]) if "copied" in packing else 0
    token_step = max(_STEP, (1 << (tokens.bit_length() - 1)) // _TOKEN_SIZES)
    filled = _next_multiple(tokens + 1, token_step)  # the added sequence has a token at least
    copy_step = max(_STEP, filled // _COPY_SIZES) if copies else 0
    filled_copies = _next_multiple(copies, copy_step) if copies else 0
    return Size(filled, filled_copies, len(packing["starts"]), max(longest, token_step + copy_step))


def _next_multiple(number: int, step: int) -> int:
    return -(-number // step) * step


def fill(ids: Any, packing: Mapping[str, Any], size: Size) -> tuple[Any, dict[str, Any]]:
    """Return the token ids and the ``packing`` of a batch, filled to ``size``. The first tokens are those of ``ids``.

    ``ids`` is (tokens,) int64. The result has the keys of ``packing`` that the attention reads, and ``positions``.
    """
    import torch

    tokens = len(ids)
    spare = size.tokens - tokens

    def extended(name: str, *parts: Any) -> Any:
        return torch.cat([packing[name], *parts])

    def repeated(value: int, count: int, like: Any) -> Any:
        return torch.full((count,), value, dtype=like.dtype, device=like.device)

    def counted(first: int, count: int) -> Any:
        return torch.arange(first, first + count, device=ids.device)

    filled: dict[str, Any] = {
        "positions": extended("positions", repeated(0, spare, ids)),
        "starts": extended("starts", repeated(size.tokens, 1, packing["starts"])),
        "key_starts": extended("key_starts", repeated(size.tokens + size.copies, 1, packing["key_starts"])),
        "longest": size.longest,
        "longest_keys": size.longest,
    }
    if size.copies:
        keys, copies = len(packing["keys"]), len(packing["copied"])
        spare_copies = size.copies - copies
        filled["keys"] = extended("keys", repeated(tokens, spare_copies, ids), counted(tokens, spare))
        filled["own"] = extended("own", counted(keys + spare_copies, spare))
        filled["copied"] = extended("copied", counted(keys, spare_copies))
    return torch.cat([ids, repeated(0, spare, ids)]), filled
