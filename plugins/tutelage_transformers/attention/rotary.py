"""Rotary position embedding in one kernel instead of ten, for generation on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

_FUNCTION = "apply_rotary_pos_emb"
"""The name of the function in each of transformers' modules."""
_SIZE = 64
"""Dimensions of a head of the random numbers."""
_ROTATED = (24, _SIZE)
"""Numbers of rotated dimensions that are tried, in this order. Some functions raise an error unless all dimensions that
they get are rotated; their models call them with whole heads, or with the rotated part of each head."""

Rotate = Callable[..., tuple[Any, Any]]
"""Returns queries and keys, rotated: (queries, keys, cosines, sines)."""


def fuse_rotations(model: Any) -> int:
    """Replace the rotation of queries and keys (Su et al., 2021, RoFormer, equation 34) by the same in one kernel.

    Returns the number of modules that were replaced. transformers' modules have a function for it, which computes it by
    elementary operations. It is replaced for this model alone, and only if the kernel gives the same bits on random
    numbers: in some families neighbouring dimensions are rotated, or in float32. The replacement has no gradient.
    """
    forwards: dict[Any, Any] = {}
    count = 0
    for module in model.modules():
        forward = type(module).forward
        if forward not in forwards:
            forwards[forward] = _with_kernel(forward, model)
        if (fused := forwards[forward]) is not None:
            module.forward = MethodType(fused, module)
            count += 1
    return count


def _with_kernel(forward: Any, model: Any) -> Any:
    """Return a module's ``forward`` with the kernel as its rotation, or None if it does not call such a function."""
    if not isinstance(forward, FunctionType) or _FUNCTION not in forward.__code__.co_names:
        return None
    original = forward.__globals__.get(_FUNCTION)
    if original is None or not is_known(original, model.device, model.dtype):
        return None
    names = {**forward.__globals__, _FUNCTION: fused(original)}
    replaced = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    replaced.__kwdefaults__ = forward.__kwdefaults__
    return replaced


def is_known(original: Rotate, device: Any, dtype: Any) -> bool:
    """Return whether the kernel returns what ``original`` does, bit for bit, on random numbers."""
    import torch

    generator = torch.Generator(device=device).manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    queries, keys = draw(1, 5, 6, _SIZE).transpose(1, 2), draw(1, 5, 2, _SIZE).transpose(1, 2)
    for rotated in _ROTATED:
        cos, sin = draw(1, 5, rotated), draw(1, 5, rotated)
        try:
            with torch.inference_mode():
                expected = original(queries, keys, cos, sin)
        except (RuntimeError, TypeError):
            continue
        found = fused(original)(queries, keys, cos, sin)
        return all(one.dtype == two.dtype and torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    return False


def fused(original: Rotate) -> Rotate:
    """Return a function that rotates by the kernel, or by ``original`` for arguments that the kernel does not take."""
    from tutelage_transformers.attention.kernels import rotate

    def rotated(queries: Any, keys: Any, cos: Any, sin: Any, *others: Any, **options: Any) -> tuple[Any, Any]:
        tensors = (queries, keys, cos, sin)
        one_type = len({tensor.dtype for tensor in tensors}) == 1
        if others or options or not one_type or len(queries) != 1 or any(one.stride(-1) != 1 for one in tensors):
            return original(queries, keys, cos, sin, *others, **options)
        return rotate(queries, keys, cos, sin)

    return rotated
