"""A Triton kernel for RMSNorm. ``norms`` describes what it computes; a test compares it with transformers' modules."""

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
