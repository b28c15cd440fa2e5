"""One pass of a model, forward and backward, as two CUDA graphs: its capture and its replay.

A captured pass reads its inputs from tensors at fixed addresses, and leaves its results there. Its activations are in
memory that all graphs of a training share, so they are overwritten by the next pass forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias

from attrs import define, frozen

Compute: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]
"""Computes the hidden states (tokens, size) of token ids (tokens,) and their ``packing``, the result of ``plan``."""

_invalid_graphs: list[Any] = []
"""Graphs whose capture became invalid. torch's allocator of pinned memory keeps a reference to each of them."""


@frozen(eq=False)
class CapturedPass:
    """The two graphs of one size, and the tensors that they read and write."""

    inputs: Mapping[str, Any]
    forward: Any
    hidden: Any
    upstream: Any
    """The gradient of ``hidden``."""
    backward: Any
    gradients: Sequence[Any]
    """The gradient of each weight; None if the weight is not used."""

    def set(self, ids: Any, packing: Mapping[str, Any]) -> None:
        """Copy a filled batch to the tensors that the graphs read."""
        for name, own in self.inputs.items():
            own.copy_(ids if name == "ids" else packing[name])


@define(eq=False)
class Activations:
    """The activations of one replayed pass. This object exists as long as autograd can ask for the pass backward."""

    are_needed: bool = True
    """Whether the pass backward is still to come. Until then, no other pass may be replayed."""


def replay(captured: CapturedPass, activations: Activations, weights: Sequence[Any]) -> Any:
    """Compute the hidden states of the batch that was ``set``; the gradient flows to ``weights``.

    They are overwritten by the next pass. The pass goes backward once: a second time raises ``RuntimeError``.
    """
    return _function().apply(captured, activations, *weights)


@cache
def _function() -> type[Any]:
    import torch

    class Replay(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
        """One captured pass forward and backward. The weights are inputs, so that autograd adds up their gradients."""

        @staticmethod
        def forward(context: Any, captured: CapturedPass, activations: Activations, *weights: Any) -> Any:
            context.captured, context.activations = captured, activations
            captured.forward.replay()
            return captured.hidden.detach()

        @staticmethod
        def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
            captured, activations = context.captured, context.activations
            if not activations.are_needed:
                raise RuntimeError("a captured pass cannot go backward twice: its activations are overwritten")
            activations.are_needed = False
            captured.upstream.copy_(gradient)
            captured.backward.replay()
            # copies: autograd may keep what it gets as the gradient of the weight, and the next pass writes here
            return None, None, *(None if own is None else own.clone() for own in captured.gradients)

    return Replay


def capture(
    compute: Compute, ids: Any, packing: Mapping[str, Any], weights: Sequence[Any], gradients: Sequence[Any], pool: Any
) -> CapturedPass:
    """Capture the pass of a filled batch. Nothing is computed.

    ``gradients`` are tensors to which the gradients of ``weights`` are written, ``pool`` is the memory of the
    activations. If the capture fails, the random generators and the current stream are as before, and what was
    allocated is freed when the error is. The error may be of any class: the model, autograd and CUDA raise it.
    """
    import torch

    forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with _random_state_kept_on_error(ids.device):
        with _graph(forward, pool):
            hidden = compute(ids, packing)
        upstream = torch.zeros_like(hidden)
        with _graph(backward, pool):
            found = torch.autograd.grad(hidden, weights, upstream, allow_unused=True)
            for gradient, own in zip(found, gradients, strict=True):
                if gradient is not None:
                    own.copy_(gradient)
    used = [own if gradient is not None else None for own, gradient in zip(gradients, found, strict=True)]
    inputs = {"ids": ids, **{name: value for name, value in packing.items() if isinstance(value, torch.Tensor)}}
    return CapturedPass(inputs, forward, hidden.detach(), upstream, backward, used)


@contextmanager
def _graph(graph: Any, pool: Any) -> Iterator[None]:
    """Capture what is done in the context, with autocast if it is on, but without its copies of weights.

    Autocast would keep them for operations after the graph, and their memory belongs to the graph.
    """
    import torch

    autocast = torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"), autocast:
            yield
    except BaseException:
        torch.cuda.set_stream(stream)  # torch keeps the stream of an invalid capture
        _end_allocations(graph, pool)
        raise


def _end_allocations(graph: Any, pool: Any) -> None:
    """End the allocations of an invalid capture. torch does this at the end of a valid capture only.

    Otherwise the allocator would consider the capture as running, and would never free memory of the pool.
    """
    import torch

    device = torch.cuda.current_device()
    try:
        torch.cuda.memory._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # torch has done it: the capture is valid, and the error is another one
        return
    torch.cuda.memory._cuda_releasePool(device, pool)
    _invalid_graphs.append(graph)


@contextmanager
def _random_state_kept_on_error(device: Any) -> Iterator[None]:
    """Give torch's random generators the state that they had before the context if it ends with an error.

    The generator of the GPU gets a new state object: in torch 2.10, one whose capture became invalid refuses to draw
    numbers outside of a capture.
    """
    import torch

    cpu, gpu = torch.get_rng_state(), torch.cuda.get_rng_state(device)
    try:
        yield
    except BaseException:
        torch.set_rng_state(cpu)
        generator = torch.Generator(device)
        generator.set_state(gpu)
        torch.cuda.default_generators[device.index].graphsafe_set_state(generator)
        raise
