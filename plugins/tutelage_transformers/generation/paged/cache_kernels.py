"""Triton kernels that copy keys and values to and from their blocks. ``attention`` copies the same in plain torch.

torch's indexing computes an address for each number. A program of these kernels computes one for each token. Tests
compare both.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


def write_blocks(keys: Any, values: Any, block: Any, offset: Any, key: Any, value: Any) -> None:
    """Store ``key`` and ``value`` (tokens, kv_heads, head_dim) in ``keys`` and ``values``.

    These are (blocks, kv_heads, block_size, head_dim), contiguous; ``block`` and ``offset`` are (tokens,).
    """
    tokens, heads, size = key.shape
    if key.stride(2) != 1 or value.stride(2) != 1:
        key, value = key.contiguous(), value.contiguous()
    _write_blocks[(tokens,)](
        keys, values, block, offset, key, value, key.stride(0), key.stride(1), value.stride(0), value.stride(1),
        heads, keys.shape[2], size, triton.next_power_of_2(heads), triton.next_power_of_2(size),
    )  # fmt: skip


def read_blocks(keys: Any, values: Any, block: Any, offset: Any) -> tuple[Any, Any]:
    """Return the keys and values (tokens, kv_heads, head_dim) at ``block`` and ``offset`` (tokens,).

    ``keys`` and ``values`` are (blocks, kv_heads, block_size, head_dim), contiguous.
    """
    _, heads, block_size, size = keys.shape
    key, value = (torch.empty(len(block), heads, size, dtype=keys.dtype, device=keys.device) for _ in range(2))
    _read_blocks[(len(block),)](
        keys, values, block, offset, key, value,
        heads, block_size, size, triton.next_power_of_2(heads), triton.next_power_of_2(size),
    )  # fmt: skip
    return key, value


@triton.jit
def _address(block, offset, token, head, dims, heads, block_size, size):
    """Return the addresses of the numbers of a token in the blocks: (heads, dims)."""
    return ((tl.load(block + token) * heads + head) * block_size + tl.load(offset + token)) * size + dims


@triton.jit
def _write_blocks(
    keys, values, block, offset, key, value, key_row, key_head, value_row, value_head, heads, block_size, size,
    HEADS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """One program for each token."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    dims = tl.arange(0, SIZE)[None, :]
    real = (head < heads) & (dims < size)
    address = _address(block, offset, token, head, dims, heads, block_size, size)
    tl.store(keys + address, tl.load(key + token * key_row + head * key_head + dims, mask=real), mask=real)
    tl.store(values + address, tl.load(value + token * value_row + head * value_head + dims, mask=real), mask=real)


@triton.jit
def _read_blocks(
    keys, values, block, offset, key, value, heads, block_size, size, HEADS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """One program for each token."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS)[:, None]
    dims = tl.arange(0, SIZE)[None, :]
    real = (head < heads) & (dims < size)
    address = _address(block, offset, token, head, dims, heads, block_size, size)
    row = (token * heads + head) * size + dims
    tl.store(key + row, tl.load(keys + address, mask=real), mask=real)
    tl.store(value + row, tl.load(values + address, mask=real), mask=real)
