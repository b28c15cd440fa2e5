"""Rotary position embedding in one kernel instead of ten, and its gradient in one instead of twenty, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Set
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

Types = tuple[Any, Any]
"""The torch types of queries and keys, and of cosines and sines. They differ in mixed precision."""


def fuse_rotations(model: Any, trained_in: Any = None) -> int:
    """Replace the rotation of queries and keys (Su et al., 2021, RoFormer, equation 34) by the same in one kernel.

    Returns the number of modules that were replaced. transformers' modules have a function for it, which computes it by
    elementary operations. It is replaced for this model alone, and only for the types for which the kernel gives the
    same bits on random numbers: in some families neighbouring dimensions are rotated, or in float32. For a training,
    ``trained_in`` is the type in which it computes. The gradients must then have the same bits too.
    """
    forwards: dict[Any, Any] = {}
    count = 0
    for module in model.modules():
        forward = type(module).forward
        if forward not in forwards:
            forwards[forward] = _with_kernel(forward, model, trained_in)
        if (fused := forwards[forward]) is not None:
            module.forward = MethodType(fused, module)
            count += 1
    return count


def _with_kernel(forward: Any, model: Any, trained_in: Any) -> Any:
    """Return a module's ``forward`` with the kernel as its rotation, or None if it does not call such a function."""
    if not isinstance(forward, FunctionType) or _FUNCTION not in forward.__code__.co_names:
        return None
    original = forward.__globals__.get(_FUNCTION)
    if original is None:
        return None
    wanted = {(kind, model.dtype) for kind in (model.dtype, trained_in) if kind is not None}
    known = {types for types in wanted if is_known(original, model.device, types, trained_in is not None)}
    if not known:
        return None
    names = {**forward.__globals__, _FUNCTION: fused(original, known)}
    replaced = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    replaced.__kwdefaults__ = forward.__kwdefaults__
    return replaced


def is_known(original: Rotate, device: Any, types: Types, with_gradient: bool) -> bool:
    """Return whether the kernel returns what ``original`` does, bit for bit, on random numbers.

    ``with_gradient`` also compares the gradients of queries and keys.
    """
    import torch

    generator = torch.Generator(device=device).manual_seed(0)
    states, angles = types

    def draw(kind: Any, *shape: int) -> Any:
        return torch.randn(*shape, generator=generator, device=device).to(kind)

    inputs = [draw(states, 1, 5, heads, _SIZE).transpose(1, 2).requires_grad_(with_gradient) for heads in (6, 2)]
    upstream = [draw(torch.float32, *one.shape) for one in inputs]

    def results(rotate: Rotate, cos: Any, sin: Any) -> list[Any]:
        with torch.set_grad_enabled(with_gradient):
            found = rotate(*inputs, cos, sin)
            directions = [one.to(rotated.dtype) for one, rotated in zip(upstream, found, strict=True)]
            return [*found, *(torch.autograd.grad(found, inputs, directions) if with_gradient else ())]

    for rotated in _ROTATED:
        cos, sin = draw(angles, 1, 5, rotated), draw(angles, 1, 5, rotated)
        try:
            expected = results(original, cos, sin)
        except (RuntimeError, TypeError):
            continue
        found = results(fused(original, {types}), cos, sin)
        return all(one.dtype == two.dtype and torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    return False


def fused(original: Rotate, known: Set[Types]) -> Rotate:
    """Return a function that rotates by the kernel, or by ``original`` for arguments that the kernel does not take.

    The kernel takes the types that are ``known``, which are of float32 or smaller.
    """
    from tutelage_transformers.attention.kernels import rotate

    def rotated(queries: Any, keys: Any, cos: Any, sin: Any, *others: Any, **options: Any) -> tuple[Any, Any]:
        tensors = (queries, keys, cos, sin)
        are_known = {(queries.dtype, cos.dtype), (keys.dtype, sin.dtype)} <= known
        if others or options or not are_known or len(queries) != 1 or any(one.stride(-1) != 1 for one in tensors):
            return original(queries, keys, cos, sin, *others, **options)
        return rotate(queries, keys, cos, sin)

    return rotated
