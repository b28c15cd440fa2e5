"""Training steps as CUDA graphs: the forward and the backward pass of a packed model are two launches.

A step of a small model starts thousands of kernels, each of which takes the CPU longer to start than the GPU to
compute. The two CUDA graphs of a batch size (see ``filling``) are captured once, and are then each started as a whole.
The kernels are the same; their inputs are filled up. The model without its head is captured. TRL's head, loss and
metrics, the optimizer and the exchange of gradients between processes follow as before.

The first batch is computed without a graph. It initialises the libraries, and it shows whether the model copies values
to the CPU, which a graph cannot do, and how much memory the activations take.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias

from attrs import define, field, frozen

from tutelage_transformers.devices.selection import is_nvidia
from tutelage_transformers.training.filling import TOKEN_SIZES, Size, fill, size_of
from tutelage_transformers.training.fitting import USABLE_SHARE, device_memory

_MIN_BATCHES = 24
"""Minimum number of batches of a training whose steps are captured, because the captures of all sizes take time."""
_MAX_OPERATIONS = 4e13
"""Operations of a pass forward and backward up to which the launches take longer: on an H100, 5,400 launches of a step
of 2.7 billion weights took 0.2 s, in which the GPU computes about this number."""
_LONG_TRAINING = 7e15
"""Operations of a training in which half as many sizes of batches would add 5% of tokens, or 1.6 s on an H100: the time
of eight captures."""
_MAX_TRAINED = 500_000_000
"""Number of trained weights up to which steps are captured: the graphs keep one more gradient of each."""
_ACTIVATION_MARGIN = 1.3
"""Memory of a captured pass, in relation to the activations that the forward pass keeps."""
_SYNCHRONISED = "called a synchronizing CUDA operation"
"""The warning of torch's debug mode."""


Compute: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]
"""Computes the hidden states (tokens, size) of token ids (tokens,) and their ``packing``, the result of ``plan``."""


def is_worth_it(trainer: Any, lengths: Sequence[int]) -> bool:
    """Return whether the steps of this trainer, whose model is packed, can be captured and are faster then.

    ``lengths`` are the tokens that each row takes. Not captured: batches that keep the GPU busy, short trainings,
    many trained weights, whose gradients need the memory, models whose experts get different numbers of tokens in each
    step, weights that are quantised or spread over GPUs, and activations that are computed again in the backward pass.
    """
    arguments, model = trainer.args, trainer.model
    batches, operations = _work(trainer, lengths)
    return (
        is_nvidia(model.device)
        and batches >= _MIN_BATCHES
        and operations <= _MAX_OPERATIONS
        and sum(weight.numel() for weight in model.parameters() if weight.requires_grad) <= _MAX_TRAINED
        and not arguments.gradient_checkpointing
        and not trainer.is_fsdp_enabled
        and not trainer.is_deepspeed_enabled
        and not getattr(model, "is_quantized", False)
        and not any(type(module).__name__.endswith("Experts") for module in model.modules())
    )


def token_sizes(trainer: Any, lengths: Sequence[int]) -> int:
    """Return the number of sizes to which batches are filled, from one power of two to the next.

    It is lower for a short training of a small model, in which a capture takes longer than the tokens that are added.
    """
    batches, operations = _work(trainer, lengths)
    return TOKEN_SIZES if batches * operations >= _LONG_TRAINING else TOKEN_SIZES // 2


def _work(trainer: Any, lengths: Sequence[int]) -> tuple[float, float]:
    """Return the number of batches of a training on one device, and the operations of a batch."""
    arguments = trainer.args
    rows = arguments.per_device_train_batch_size
    batches = len(lengths) * arguments.num_train_epochs / (rows * arguments.world_size)
    tokens = rows * sum(lengths) / len(lengths)
    # two operations per weight and token forward, two for the gradients of the activations, two for those of weights
    return batches, (4 if hasattr(trainer.model, "peft_config") else 6) * trainer.number_of_weights * tokens


@define(eq=False)
class CapturedBackbone:
    """A packed model, without its head, whose passes in training are captured."""

    weights: Sequence[Any]
    """The weights that are trained."""
    longest: int
    """Number of tokens of the longest sequence of the training."""
    token_sizes: int = TOKEN_SIZES
    """Number of sizes of batches, from one power of two to the next."""
    _steps: dict[Size, _Step] = field(factory=dict)
    _gradients: list[Any] = field(factory=list)
    """A gradient for each weight. All graphs write into these tensors."""
    _pool: Any = None
    """The memory of activations, which all graphs share: each pass backward follows its pass forward."""
    _token_bytes: float | None = None
    """Memory that the forward pass keeps for a token; None before the first batch, infinite if nothing is captured."""

    def run(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> Any:
        """Return the hidden states of a batch, which ``compute`` computes; the gradient flows to ``weights``."""
        if self._token_bytes is None:
            return self._measured(compute, ids, packing)
        size = size_of(packing, self.longest, self.token_sizes)
        if size not in self._steps:
            if not self._fits(size):
                return compute(ids, packing)
            self._steps[size] = self._captured(compute, *fill(ids, packing, size))
        step = self._steps[size]
        step.set(*fill(ids, packing, size))
        return _replay().apply(step, *self.weights)[: len(ids)]

    def _measured(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> Any:
        import torch

        before = torch.cuda.memory_allocated(ids.device)
        with _synchronisations() as found:
            hidden = compute(ids, packing)
        kept = torch.cuda.memory_allocated(ids.device) - before
        self._token_bytes = float("inf") if found else kept / len(ids)
        return hidden

    def _fits(self, size: Size) -> bool:
        """Return whether there is memory for the graphs of this size, beside that of a pass that is not captured."""
        import torch

        assert self._token_bytes is not None
        device = self.weights[0].device
        needed = self._token_bytes * size.tokens * (1 + _ACTIVATION_MARGIN)
        return bool(torch.cuda.memory_allocated(device) + needed <= USABLE_SHARE * device_memory(device))

    def _captured(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> _Step:
        import torch

        self._gradients = self._gradients or [torch.empty_like(weight) for weight in self.weights]
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _graph(forward, self._pool):
            hidden = compute(ids, packing)
        upstream = torch.zeros_like(hidden)
        with _graph(backward, self._pool):
            gradients = torch.autograd.grad(hidden, self.weights, upstream, allow_unused=True)
            for gradient, own in zip(gradients, self._gradients, strict=True):
                if gradient is not None:
                    own.copy_(gradient)
        used = [own if gradient is not None else None for own, gradient in zip(self._gradients, gradients, strict=True)]
        inputs = {"ids": ids, **{name: value for name, value in packing.items() if isinstance(value, torch.Tensor)}}
        return _Step(inputs, forward, hidden.detach(), upstream, backward, used)


@frozen(eq=False)
class _Step:
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


@cache
def _replay() -> type[Any]:
    import torch

    class Replay(torch.autograd.Function):  # type: ignore[misc]  # torch is not followed
        """One captured pass forward and backward. The weights are inputs, so that autograd adds up their gradients."""

        @staticmethod
        def forward(context: Any, step: _Step, *weights: Any) -> Any:
            context.step = step
            step.forward.replay()
            return step.hidden.detach()

        @staticmethod
        def backward(context: Any, gradient: Any) -> tuple[Any, ...]:
            step = context.step
            step.upstream.copy_(gradient)
            step.backward.replay()
            # copies: autograd may keep what it gets as the gradient of the weight, and the next pass writes here
            return None, *(None if own is None else own.clone() for own in step.gradients)

    return Replay


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
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"), autocast:
        yield


@contextmanager
def _synchronisations() -> Iterator[list[str]]:
    """Collect the operations that wait for the GPU. The list is filled when the context ends."""
    import torch

    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [str(one.message) for one in caught if _SYNCHRONISED in str(one.message)]
