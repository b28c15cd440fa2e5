"""Packed batches of few sizes: a batch is filled up with tokens that nothing attends to and whose output is dropped.

A captured step computes batches of one size only (see ``capturing``). The tokens and keys that are added are one more
sequence, of the token 0. Its output gets no gradient, so it changes neither the results of the other sequences nor the
gradients of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

TOKEN_SIZES = 8
"""Default number of sizes, in tokens, from one power of two to the next. It adds 5% of tokens on average; half as many
sizes add 10%. More sizes need more captures."""
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


def size_of(packing: Mapping[str, Any], longest: int, token_sizes: int = TOKEN_SIZES) -> Size:
    """Return the size to which a batch is filled. ``packing`` is the result of ``packing.plan``.

    ``longest`` is at least the length of each sequence. It is the same for all batches of a training, as is
    ``token_sizes``, the number of sizes from one power of two to the next. The number of copies is a power of two, at
    least a quarter of the tokens: a copy takes little time, and batches of as many tokens have about as many copies.
    """
    tokens, copies = len(packing["positions"]), len(packing["copied"]) if "copied" in packing else 0
    token_step = max(_STEP, (1 << (tokens.bit_length() - 1)) // token_sizes)
    filled = _next_multiple(tokens + 1, token_step)  # the added sequence has a token at least
    filled_copies = max(_power_of_two(copies), _power_of_two(filled // 4)) if copies else 0
    return Size(filled, filled_copies, len(packing["starts"]), max(longest, token_step + filled_copies))


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


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
