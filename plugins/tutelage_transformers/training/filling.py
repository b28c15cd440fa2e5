"""Packed batches of few sizes: a batch is filled up with tokens that nothing attends to and whose output is dropped.

A captured step computes batches of one size only (see ``capturing``). The tokens and keys that are added are a few more
sequences, of the token 0. Their output gets no gradient, so they change neither the results of the other sequences nor
the gradients of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from attrs import frozen

TOKEN_SIZES = 8
"""Default number of sizes, in tokens, from one power of two to the next. It adds 5% of tokens on average; half as many
sizes add 10%. More sizes need more captures."""
_STEP = 64
"""Minimum difference of two sizes."""
_ADDED = 8
"""Number of sequences that are added. The attention of one long sequence would take as long as that of the batch."""


@frozen
class Size:
    """The size of a filled batch. All batches of one size have tensors of the same shapes."""

    tokens: int
    copies: int
    """Keys that a sequence repeats from another one; 0 if no sequence does."""
    sequences: int
    """Number of sequences, including those that are added."""
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
    filled = _next_multiple(tokens + _ADDED, token_step)  # each added sequence has a token at least
    filled_copies = max(_power_of_two(copies), _power_of_two(filled // 4)) if copies else 0
    longest_added = max(_parts(token_step + _ADDED - 1)) + max(_parts(filled_copies))
    return Size(filled, filled_copies, len(packing["starts"]) - 1 + _ADDED, max(longest, longest_added))


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()


def _next_multiple(number: int, step: int) -> int:
    return -(-number // step) * step


def _parts(number: int) -> Sequence[int]:
    """Divide a number into equal parts, one for each added sequence."""
    return [number // _ADDED + (part < number % _ADDED) for part in range(_ADDED)]


def fill(ids: Any, packing: Mapping[str, Any], size: Size) -> tuple[Any, dict[str, Any]]:
    """Return the token ids and the ``packing`` of a batch, filled to ``size``. The first tokens are those of ``ids``.

    ``ids`` is (tokens,) int64. The result has the keys of ``packing`` that the attention reads, and ``positions``. Of
    the keys of an added sequence, the first ones repeat its tokens in turn, so that no token has many gradients.
    """
    import numpy as np
    import torch

    tokens = len(ids)
    keys, copies = (len(packing["keys"]), len(packing["copied"])) if size.copies else (tokens, 0)
    own, copied = _parts(size.tokens - tokens), _parts(size.copies - copies)
    ends = list(accumulate(own, initial=tokens))
    key_ends = list(accumulate((sum(pair) for pair in zip(own, copied, strict=True)), initial=keys))

    def extended(name: str, parts: Sequence[Any]) -> Any:
        before = packing[name]
        return torch.cat([before, torch.as_tensor(np.concatenate(parts)).to(before, non_blocking=True)])

    zeros = ids.new_zeros(size.tokens - tokens)
    filled: dict[str, Any] = {
        "positions": torch.cat([packing["positions"], zeros]),
        "starts": extended("starts", [ends[1:]]),
        "key_starts": extended("key_starts", [key_ends[1:]]),
        "longest": size.longest,
        "longest_keys": size.longest,
    }
    if size.copies:
        added = list(zip(ends, key_ends, own, copied, strict=False))
        filled["keys"] = extended(
            "keys", [first + np.r_[np.arange(more) % count, :count] for first, _, count, more in added]
        )
        filled["own"] = extended("own", [first + more + np.arange(count) for _, first, count, more in added])
        filled["copied"] = extended("copied", [first + np.arange(more) for _, first, _, more in added])
    return torch.cat([ids, zeros]), filled
