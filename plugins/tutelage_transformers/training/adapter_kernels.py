"""A LoRA layer in half precision as one node of autograd, with Triton kernels. ``adapters`` decides where it is used.

The layer is ``x @ weight.T + bias + dropout(x) @ down.T @ up.T * scaling`` (Hu et al., 2021, section 4.1). The mask of
the dropout is not stored: each kernel computes it from a random seed and the place of a number in ``x``. So the layer
keeps its input, which it often shares with other layers, and no dropped copy of it. Tests compare it with PEFT's layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

_SEEDS = 2**63 - 1
_STEPS = 2**16
"""The probability of dropout is rounded to a multiple of 1 / ``_STEPS``: 16 random bits decide on each number."""
_BUSY_PROGRAMS = 528
"""Number of programs that keep a GPU busy: four for each processor of an H100. Each has a part of the gradient."""
_BLOCK = 32
"""Rows whose gradients a program computes at once; with more, their numbers do not fit into registers."""
_HALF: tl.constexpr = tl.constexpr(64)
"""Columns that are computed at once, twice: one random word decides on a number in each half."""
_COLUMNS = 128


class AdaptedLinear(torch.autograd.Function):
    """A linear layer, whose weights are frozen, with its adapter.

    ``apply`` takes ``x`` (..., inputs), the layer's ``weight`` (outputs, inputs) and ``bias`` (outputs,) or None, all
    of one type with 16 bits; the adapter's ``down`` (rank, inputs) and ``up`` (outputs, rank), of any type; the
    scaling; and the probability of dropout, below 1. It returns (..., outputs) in the type of ``x``.
    """

    @staticmethod
    def forward(
        context: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, scaling: float, dropout: float
    ) -> Any:
        """Draw the seed of the dropout with torch's generator of the device, which CUDA graphs and checkpoints know."""
        rows = _rows(x)
        seed = torch.randint(_SEEDS, (1,), device=x.device) if dropout else None
        inner = project(rows, down, seed, scaling, dropout)
        half_up = up.to(x.dtype)
        result = x.new_empty((*x.shape[:-1], len(weight)))
        flat = result.view(-1, len(weight))  # autograd forbids operations in place on a view that a function returns
        if bias is None:
            torch.mm(rows, weight.t(), out=flat)
        else:
            torch.addmm(bias, rows, weight.t(), out=flat)
        flat.addmm_(inner, half_up.t())
        context.save_for_backward(x, weight, down, half_up, inner, seed)
        context.options = scaling, dropout, up.dtype
        return result

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
        """Return the gradients of ``x``, ``down`` and ``up``, each in its type."""
        x, weight, down, half_up, inner, seed = context.saved_tensors
        scaling, dropout, up_type = context.options
        rows, gradient = _rows(x), _rows(gradient)
        is_needed = context.needs_input_grad[0]
        d_x = gradient @ weight if is_needed else torch.empty_like(rows)  # the kernel adds to it in both cases
        d_down = gradients(rows, d_x, gradient @ half_up, down, seed, scaling, dropout).to(down.dtype)
        d_up = (gradient.t() @ inner).to(up_type)
        return d_x.view(x.shape) if is_needed else None, None, None, d_down, d_up, None, None


def project(x: Any, down: Any, seed: Any, scale: float, dropout: float) -> Any:
    """Return ``dropout(x) @ down.T * scale`` (rows, rank) in the type of ``x`` (rows, size), which is contiguous.

    ``down`` is (rank, size), contiguous. ``seed`` is a tensor of one int64 on the device; without dropout, it may be
    None.
    """
    rows, size = x.shape
    rank = len(down)
    threshold, scale = _chance(dropout, scale)
    out = torch.empty((rows, rank), dtype=x.dtype, device=x.device)
    block, stages = (32, 3) if rank <= 32 else (64, 2)  # 100 KiB of shared memory, which consumer GPUs have
    _project[(triton.cdiv(rows, block),)](
        x, down, seed, out, rows, size, rank, scale, threshold, _padded(rank), block, num_warps=4, num_stages=stages
    )
    return out


def gradients(x: Any, d_x: Any, d_inner: Any, down: Any, seed: Any, scale: float, dropout: float) -> Any:
    """Add ``mask * (d_inner @ down) * scale`` to ``d_x``, and return ``d_inner.T @ dropout(x) * scale``.

    The mask is that of ``project``. ``x`` and ``d_x`` are (rows, size), ``d_inner`` is (rows, rank), of one type;
    ``down`` is (rank, size). All are contiguous. What is returned is (rank, size) in float32. Groups of rows are added
    up in a fixed order.
    """
    rows, size = x.shape
    rank = len(down)
    threshold, scale = _chance(dropout, scale)
    groups = triton.cdiv(size, _COLUMNS)
    blocks = triton.cdiv(rows, _BLOCK)
    blocks_of_part = max(1, triton.cdiv(blocks * groups, _BUSY_PROGRAMS))
    parts = triton.cdiv(blocks, blocks_of_part)
    partial = torch.empty((parts, rank, size), dtype=torch.float32, device=x.device)
    _gradients[(groups, parts)](
        x, d_x, d_inner, down, seed, partial, rows, size, rank, blocks_of_part * _BLOCK, scale,
        threshold, _padded(rank), _BLOCK, num_warps=4 if rank <= 32 else 8, num_stages=2,
    )  # fmt: skip
    return partial.sum(0)


def first_calls(device: Any, dtype: Any, adapter_dtype: Any, rank: int, dropout: float) -> Sequence[Callable[[], Any]]:
    """Return a call of each kernel on one row, for which Triton compiles what layers of these types need."""
    x, d_x = torch.zeros(2, 1, _COLUMNS, dtype=dtype, device=device)
    d_inner = torch.zeros(1, rank, dtype=dtype, device=device)
    down = torch.zeros(rank, _COLUMNS, dtype=adapter_dtype, device=device)
    seed = torch.zeros(1, dtype=torch.int64, device=device) if dropout else None
    return (
        lambda: project(x, down, seed, 1.0, dropout),
        lambda: gradients(x, d_x, d_inner, down, seed, 1.0, dropout),
    )


def _rows(states: Any) -> Any:
    return states.reshape(-1, states.shape[-1]).contiguous()


def _padded(rank: int) -> int:
    return max(16, triton.next_power_of_2(rank))


def _chance(dropout: float, scale: float) -> tuple[int, float]:
    """Return how many of ``_STEPS`` random numbers drop a value, and the scale of those that are kept."""
    threshold = min(round(dropout * _STEPS), _STEPS - 1)
    return threshold, scale * _STEPS / (_STEPS - threshold)


@triton.jit(do_not_specialize=["rows"])
def _project(
    x, down, seed, out, rows, size, rank, scale, THRESHOLD: tl.constexpr, RANK: tl.constexpr, BLOCK: tl.constexpr
):
    """One program for each block of rows."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ranks = tl.arange(0, RANK)
    keys = _row_keys(seed, row, THRESHOLD)
    total = tl.zeros((BLOCK, RANK), tl.float32)
    for start in range(0, size, 2 * _HALF):
        left, right = _columns(x, row, start, rows, size), _columns(x, row, start + _HALF, rows, size)
        left, right = _dropped(left, right, _mask(keys, start, THRESHOLD), THRESHOLD)
        total = tl.dot(left, tl.trans(_columns(down, ranks, start, rank, size).to(left.dtype)), total)
        total = tl.dot(right, tl.trans(_columns(down, ranks, start + _HALF, rank, size).to(left.dtype)), total)
    at = out + row.to(tl.int64)[:, None] * rank + ranks[None, :]
    tl.store(at, (total * scale).to(out.dtype.element_ty), mask=(row < rows)[:, None] & (ranks < rank)[None, :])


@triton.jit(do_not_specialize=["rows", "rows_of_part"])
def _gradients(
    x, d_x, d_inner, down, seed, partial, rows, size, rank, rows_of_part, scale,
    THRESHOLD: tl.constexpr, RANK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program for each group of columns and each part of the rows."""
    start = tl.program_id(0) * 2 * _HALF
    part = tl.program_id(1)
    ranks = tl.arange(0, RANK)
    left_total = tl.zeros((RANK, _HALF), tl.float32)
    right_total = tl.zeros((RANK, _HALF), tl.float32)
    left_down = _columns(down, ranks, start, rank, size).to(x.dtype.element_ty)
    right_down = _columns(down, ranks, start + _HALF, rank, size).to(x.dtype.element_ty)
    first = part * rows_of_part
    for begin in range(first, tl.minimum(first + rows_of_part, rows), BLOCK):
        row = begin + tl.arange(0, BLOCK)
        keeps = _mask(_row_keys(seed, row, THRESHOLD), start, THRESHOLD)
        left, right = _columns(x, row, start, rows, size), _columns(x, row, start + _HALF, rows, size)
        left, right = _dropped(left, right, keeps, THRESHOLD)
        upstream = _inner(d_inner, row, ranks, rows, rank)
        left_total = tl.dot(tl.trans(upstream), left, left_total)
        right_total = tl.dot(tl.trans(upstream), right, right_total)
        left = tl.dot(upstream, left_down) * scale
        right = tl.dot(upstream, right_down) * scale
        left, right = _dropped(left, right, keeps, THRESHOLD)
        left += _columns(d_x, row, start, rows, size).to(tl.float32)
        right += _columns(d_x, row, start + _HALF, rows, size).to(tl.float32)
        _store_columns(d_x, row, start, left, rows, size)
        _store_columns(d_x, row, start + _HALF, right, rows, size)
    partial += part.to(tl.int64) * rank * size
    _store_columns(partial, ranks, start, left_total * scale, rank, size)
    _store_columns(partial, ranks, start + _HALF, right_total * scale, rank, size)


@triton.jit
def _inner(d_inner, row, ranks, rows, rank):
    """Return ``d_inner`` of a block of rows, filled up with zeros: (block, ranks)."""
    at = d_inner + row.to(tl.int64)[:, None] * rank + ranks[None, :]
    return tl.load(at, mask=(row < rows)[:, None] & (ranks < rank)[None, :], other=0.0)


@triton.jit
def _columns(matrix, row, start, rows, size):
    """Return half a group of columns of a contiguous matrix (rows, size), filled up with zeros: (row, half)."""
    column = start + tl.arange(0, _HALF)
    at = matrix + row.to(tl.int64)[:, None] * size + column[None, :]
    return tl.load(at, mask=(row < rows)[:, None] & (column < size)[None, :], other=0.0)


@triton.jit
def _store_columns(matrix, row, start, values, rows, size):
    column = start + tl.arange(0, _HALF)
    at = matrix + row.to(tl.int64)[:, None] * size + column[None, :]
    tl.store(at, values.to(matrix.dtype.element_ty), mask=(row < rows)[:, None] & (column < size)[None, :])


@triton.jit
def _dropped(left, right, keeps, THRESHOLD: tl.constexpr):
    """Return both halves of a group of columns with zeros where they are dropped, without the scale."""
    if THRESHOLD:
        return tl.where(keeps[0], left, 0.0), tl.where(keeps[1], right, 0.0)
    return left, right


@triton.jit
def _mask(keys, start, THRESHOLD: tl.constexpr):
    """Return where both halves of a group of columns are kept. Half a random word decides on each number.

    The word is a hash of the column and of two words of the row, the second of which enters after the first round: the
    masks of two rows would otherwise be shifted copies of each other if their first words are near.
    """
    first, second = keys
    column = (start + tl.arange(0, _HALF)).to(tl.uint32)
    word = first[:, None] ^ (column * 0x9E3779B9)[None, :]
    word = (word ^ (word >> 16)) * 0x7FEB352D
    word = (word ^ (word >> 15) ^ second[:, None]) * 0x846CA68B
    word = word ^ (word >> 16)
    return (word & 0xFFFF) >= THRESHOLD, word >= (THRESHOLD << 16)


@triton.jit
def _row_keys(seed, row, THRESHOLD: tl.constexpr):
    """Return two random words for each row; without dropout, which needs none, the row itself."""
    words = row.to(tl.uint32)
    if THRESHOLD:
        seeds = tl.load(seed)
        low, high = seeds.to(tl.uint32), (seeds >> 32).to(tl.uint32)
        return _hash(words ^ _hash(low ^ _hash(high))), _hash(words ^ _hash(high ^ _hash(low + 1)))
    return words, words


@triton.jit
def _hash(word):
    """Mix the bits of a word by lowbias32 (C. Wellons, Hash Function Prospector, 2018)."""
    word = (word ^ (word >> 16)) * 0x7FEB352D
    word = (word ^ (word >> 15)) * 0x846CA68B
    return word ^ (word >> 16)
