"""Triton kernels for RMSNorm and for the rotation of queries and keys. ``norms`` and ``rotary`` describe them.

Tests compare them with transformers' modules.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


def rms_norm(states: Any, weight: Any, eps: float, offset: float) -> Any:
    """Normalise the last dimension of ``states`` (..., size), with up to three dimensions before it.

    Without an offset, the normalised value is rounded before it is multiplied, as transformers does. Returns the shape
    and type of ``states``, contiguous.
    """
    size = states.shape[-1]
    states = states if states.stride(-1) == 1 else states.contiguous()
    out = torch.empty(states.shape, dtype=states.dtype, device=states.device)
    rows = out.numel() // size
    wide = states[(None,) * (4 - states.dim())]
    _rms_norm[(rows,)](
        wide, weight, out, wide.stride(0), wide.stride(1), wide.stride(2), wide.shape[1], wide.shape[2],
        size, eps, offset, triton.next_power_of_2(size), offset == 0, num_warps=4 if size > 512 else 1,
    )  # fmt: skip
    return out


def rotate(queries: Any, keys: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """Rotate the first dimensions of queries (1, heads, tokens, size) and keys (1, kv_heads, tokens, size).

    ``cos`` and ``sin`` are (1, tokens, number of rotated dimensions). The last dimension of all tensors is dense. They
    are of float32 or smaller types, and a result has the type to which torch promotes its two. Intermediate results are
    rounded as torch's operations round them. Returns new tensors of these shapes. The gradient flows to queries and
    keys, not to ``cos`` and ``sin``.
    """
    if torch.is_grad_enabled() and (queries.requires_grad or keys.requires_grad):
        return _Rotation.apply(queries, keys, cos, sin)  # type: ignore[no-any-return]  # torch is not followed
    return _launch_rotation(
        queries, keys, cos, sin, *(torch.promote_types(one.dtype, cos.dtype) for one in (queries, keys))
    )


class _Rotation(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
    """The rotation and its gradient, which is the transposed rotation."""

    @staticmethod
    def forward(context: Any, queries: Any, keys: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
        context.save_for_backward(cos, sin)
        context.types = queries.dtype, keys.dtype
        return rotate(queries, keys, cos, sin)  # autograd calls this without gradients

    @staticmethod
    def backward(context: Any, *gradients: Any) -> tuple[Any, Any, None, None]:
        cos, sin = context.saved_tensors
        dense = (one if one.stride(-1) == 1 else one.contiguous() for one in gradients)
        return *_launch_rotation(*dense, cos, sin, *context.types, is_transposed=True), None, None


def _launch_rotation(
    queries: Any, keys: Any, cos: Any, sin: Any, queries_type: Any, keys_type: Any, is_transposed: bool = False
) -> tuple[Any, Any]:
    """Return both in new tensors of the types, each with the heads of a token side by side."""
    _, heads, tokens, size = queries.shape
    kv_heads, half = keys.shape[1], cos.shape[-1] // 2
    outs = [
        torch.empty_strided(
            (1, number, tokens, size), (tokens * number * size, size, number * size, 1), dtype=dtype, device=cos.device
        )
        for number, dtype in ((heads, queries_type), (kv_heads, keys_type))
    ]
    rest = size - 2 * half
    _rotate[(tokens,)](
        queries, keys, cos, sin, *outs,
        queries.stride(1), queries.stride(2), keys.stride(1), keys.stride(2), cos.stride(1), sin.stride(1),
        heads, kv_heads, size, half,
        triton.next_power_of_2(heads), triton.next_power_of_2(kv_heads), triton.next_power_of_2(half),
        triton.next_power_of_2(rest) if rest else 0, is_transposed,
        enable_fp_fusion=False,  # a fused multiply-add is not rounded between the two
    )  # fmt: skip
    return outs[0], outs[1]


@triton.jit
def _rms_norm(
    states, weight, out, stride_0, stride_1, stride_2, length_1, length_2, size, eps, offset,
    SIZE: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """One program per row."""
    row = tl.program_id(0).to(tl.int64)
    first = row // length_2
    start = first // length_1 * stride_0 + first % length_1 * stride_1 + row % length_2 * stride_2
    dims = tl.arange(0, SIZE)
    real = dims < size
    vector = tl.load(states + start + dims, mask=real, other=0.0).to(tl.float32)
    vector = vector * tl.rsqrt(tl.sum(vector * vector, 0) / size + eps)
    if ROUNDED:
        vector = vector.to(out.dtype.element_ty).to(tl.float32)
    vector = vector * (tl.load(weight + dims, mask=real, other=0.0).to(tl.float32) + offset)
    tl.store(out + row * size + dims, vector.to(out.dtype.element_ty), mask=real)


@triton.jit
def _rotate(
    queries, keys, cos, sin, queries_out, keys_out,
    queries_head, queries_token, keys_head, keys_token, cos_token, sin_token, heads, kv_heads, size, half,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """One program for each token."""
    token = tl.program_id(0).to(tl.int64)
    cos += token * cos_token
    sin += token * sin_token
    _rotate_heads(
        queries + token * queries_token, queries_head, queries_out + token * heads * size, cos, sin,
        heads, size, half, HEADS, HALF, REST, TRANSPOSED,
    )  # fmt: skip
    _rotate_heads(
        keys + token * keys_token, keys_head, keys_out + token * kv_heads * size, cos, sin,
        kv_heads, size, half, KV_HEADS, HALF, REST, TRANSPOSED,
    )  # fmt: skip


@triton.jit
def _rotate_heads(
    states, stride, out, cos, sin, heads, size, half,
    HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """Rotate all heads of a token: dimension i with dimension i + half. The other dimensions are copied."""
    head = tl.arange(0, HEADS)[:, None]
    dims = tl.arange(0, HALF)[None, :]
    real = (head < heads) & (dims < half)
    first = tl.load(states + head * stride + dims, mask=real, other=0.0)
    second = tl.load(states + head * stride + half + dims, mask=real, other=0.0)
    cos_first, cos_second = (tl.load(cos + dims, mask=dims < half), tl.load(cos + half + dims, mask=dims < half))
    sin_first, sin_second = (tl.load(sin + dims, mask=dims < half), tl.load(sin + half + dims, mask=dims < half))
    if TRANSPOSED:
        sin_first, sin_second = -sin_second, -sin_first
    at = out + head * size + dims
    tl.store(at, _sum(_product(first, cos_first, out), _product(-second, sin_first, out)), mask=real)
    tl.store(at + half, _sum(_product(second, cos_second, out), _product(first, sin_second, out)), mask=real)
    if REST:
        others = 2 * half + tl.arange(0, REST)[None, :]
        kept = (head < heads) & (others < size)
        tl.store(out + head * size + others, tl.load(states + head * stride + others, mask=kept), mask=kept)


@triton.jit
def _product(one, two, out):
    """Multiply, rounded to the type of the result: autograd rounds each of the gradients that it adds."""
    return (one.to(tl.float32) * two.to(tl.float32)).to(out.dtype.element_ty)


@triton.jit
def _sum(one, two):
    return (one.to(tl.float32) + two.to(tl.float32)).to(one.dtype)
