"""Training steps as CUDA graphs: the forward and the backward pass of a packed model are two launches.

A step of a small model starts thousands of kernels, each of which takes the CPU longer to start than the GPU to
compute. The two CUDA graphs of a batch size (see ``filling`` and ``graphs``) are captured once, and are then each
started as a whole. The kernels are the same; their inputs are filled up. The model without its head is captured. TRL's
head, loss and metrics, the optimizer and the exchange of gradients between processes follow as before.

The first batch is computed without a graph. It initialises the libraries, and it shows whether the model copies values
to the CPU, which a graph cannot do, and how much memory the activations take. Later batches are computed without one,
too, if the graphs do not fit, if a capture failed, and if a replay would be wrong (see ``CapturedBackbone.run``).
"""

from __future__ import annotations

import gc
import logging
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import ref

from attrs import define, field

from tutelage_transformers.devices.selection import is_nvidia
from tutelage_transformers.models.experts import experts_of
from tutelage_transformers.training import graphs
from tutelage_transformers.training.filling import TOKEN_SIZES, Size, fill, size_of
from tutelage_transformers.training.fitting import USABLE_SHARE, device_memory
from tutelage_transformers.training.graphs import Activations, CapturedPass, Compute

_MIN_BATCHES = 24
"""Minimum number of batches of a training whose steps are captured, because the captures of all sizes take time."""
_MAX_OPERATIONS = 6e13
"""Maximum number of operations of a pass forward and backward that is captured. With 2.7 billion weights, a step whose
kernels were launched one by one took 0.26 to 0.33 s, depending on the CPU. In captured passes, an H100 computes about
6e13 operations in 0.25 s, with those of added tokens."""
_LONG_TRAINING = 7e15
"""Operations of a training in which half as many sizes of batches would add 5% of tokens, or 1.6 s on an H100: the time
of eight captures."""
_ACTIVATION_MARGIN = 1.3
"""Memory of a captured pass, in relation to the activations that the forward pass keeps."""
_SYNCHRONISED = "called a synchronizing CUDA operation"
"""The warning of torch's debug mode."""

_log = logging.getLogger(__name__)


def is_worth_it(trainer: Any, lengths: Sequence[int]) -> bool:
    """Return whether the steps of this trainer, whose model is packed, can be captured and are faster then.

    ``lengths`` are the tokens that each row takes. Not captured: batches that keep the GPU busy, short trainings,
    models whose experts get different numbers of tokens in each step, weights that are quantised or spread over GPUs,
    and activations that are computed again in the backward pass. Whether the graphs fit into memory is decided later,
    for each size of a batch (see ``CapturedBackbone``).
    """
    arguments, model = trainer.args, trainer.model
    batches, operations = _work(trainer, lengths)
    return (
        is_nvidia(model.device)
        and batches >= _MIN_BATCHES
        and operations <= _MAX_OPERATIONS
        and not arguments.gradient_checkpointing
        and not trainer.is_fsdp_enabled
        and not trainer.is_deepspeed_enabled
        and not getattr(model, "is_quantized", False)
        and not experts_of(model)
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


def bytes_to_come(
    trained: Collection[Any], captured: Collection[Any], optimizer_state: Collection[Any], has_graphs: bool
) -> int:
    """Return the bytes that a training with graphs still allocates, besides activations. Each tensor has its own type.

    Of each weight that is ``trained``:

    - its gradient, unless an earlier batch of the step has left one
    - Adam's two moments, in the type of the weight, unless the weight is in ``optimizer_state``

    Of each weight that is ``captured``, which is one of them, three more gradients: the one that the graph of the
    backward pass computes, its copy in the tensor that all graphs write to (unless ``has_graphs``: it exists then), and
    the copy that autograd adds to the gradient of the step.
    """
    gradients = sum(weight.nbytes for weight in trained if weight.grad is None)
    moments = sum(2 * weight.nbytes for weight in trained if weight not in optimizer_state)
    of_graphs = (2 if has_graphs else 3) * sum(weight.nbytes for weight in captured)
    return int(gradients + moments + of_graphs)


def _no_state() -> Collection[Any]:
    return ()


@define(eq=False)
class CapturedBackbone:
    """A packed model, without its head, whose passes in training are captured.

    The graphs of a size are captured if the GPU has memory for them, beside all else that is still to be allocated: the
    activations of a pass without graphs, and what ``bytes_to_come`` counts.
    """

    weights: Sequence[Any]
    """The weights that are trained."""
    longest: int
    """Number of tokens of the longest sequence of the training."""
    others: Sequence[Any] = ()
    """The trained weights of the model that are not in the backbone."""
    optimizer_state: Callable[[], Collection[Any]] = _no_state
    """Returns the weights whose moments the optimizer has allocated; as a mapping, with these as its keys."""
    token_sizes: int = TOKEN_SIZES
    """Number of sizes of batches, from one power of two to the next."""
    _passes: dict[Size, CapturedPass] = field(factory=dict)
    _gradients: list[Any] = field(factory=list)
    """A gradient for each weight. All graphs write into these tensors."""
    _pool: Any = None
    """The memory of activations, which all graphs share: each pass backward follows its pass forward."""
    _activations: Callable[[], Activations | None] = field(default=lambda: None)
    """A weak reference to those of the last replayed pass."""
    _token_bytes: float | None = None
    """Memory that the forward pass keeps for a token; None before the first batch, infinite if nothing is captured."""

    def run(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> Any:
        """Return the hidden states of a batch, which ``compute`` computes; the gradient flows to ``weights``.

        No graph is used for a pass without gradients, which keeps no activations, and for one before the pass backward
        of an earlier one, whose activations a replay would overwrite.
        """
        import torch

        if not torch.is_grad_enabled() or self._token_bytes == math.inf or self._must_keep_activations():
            return compute(ids, packing)
        if self._token_bytes is None:
            return self._measured(compute, ids, packing)
        size = size_of(packing, self.longest, self.token_sizes)
        if size not in self._passes and not (self._fits(size) and self._add(size, compute, ids, packing)):
            return compute(ids, packing)
        captured = self._passes[size]
        captured.set(*fill(ids, packing, size))
        activations = Activations()
        self._activations = ref(activations)
        return graphs.replay(captured, activations, self.weights)[: len(ids)]

    def _must_keep_activations(self) -> bool:
        activations = self._activations()  # None if autograd has dropped the pass without going backward
        return activations is not None and activations.are_needed

    def _measured(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> Any:
        import torch

        before = torch.cuda.memory_allocated(ids.device)
        with _synchronisations() as found:
            hidden = compute(ids, packing)
        kept = torch.cuda.memory_allocated(ids.device) - before
        self._token_bytes = math.inf if found else kept / len(ids)
        return hidden

    def _fits(self, size: Size) -> bool:
        """Return whether there is memory for the graphs of this size, beside that of a pass that is not captured."""
        import torch

        assert self._token_bytes is not None
        device = self.weights[0].device
        trained = [*self.weights, *self.others]
        needed = self._token_bytes * size.tokens * (1 + _ACTIVATION_MARGIN)
        needed += bytes_to_come(trained, self.weights, self.optimizer_state(), bool(self._gradients))
        return bool(torch.cuda.memory_allocated(device) + needed <= USABLE_SHARE * device_memory(device))

    def _add(self, size: Size, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> bool:
        """Capture the graphs of a size; returns whether this succeeded. After a failure, nothing is captured again."""
        try:
            self._passes[size] = self._captured(compute, *fill(ids, packing, size))
        except Exception as error:  # a fault of the model is raised again by the pass without graphs
            reason = reason_of(error)
        else:
            return True
        self._clear()
        _log.warning(
            "plugin transformers: a training step could not be captured as a CUDA graph, and this training continues "
            "without graphs: %s",
            reason,
        )
        return False

    def _captured(self, compute: Compute, ids: Any, packing: Mapping[str, Any]) -> CapturedPass:
        import torch

        self._gradients = self._gradients or [torch.empty_like(weight) for weight in self.weights]
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        return graphs.capture(compute, ids, packing, self.weights, self._gradients, self._pool)

    def _clear(self) -> None:
        """Free the memory of all graphs. The error of a capture has references to tensors, in cycles of its frames."""
        import torch

        self._passes.clear()
        self._gradients.clear()
        self._pool = None
        self._token_bytes = math.inf
        gc.collect()
        torch.cuda.empty_cache()


def reason_of(error: BaseException) -> str:
    """Return the first line of an error of a capture; of the first one, if the end of the capture raised another.

    An error that was raised ``from`` another one explains it, so it counts as the first one.
    """
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _synchronisations() -> Iterator[list[str]]:
    """Collect the operations that wait for the GPU."""
    import torch

    before = torch.cuda.get_sync_debug_mode()
    with collected_warnings(_SYNCHRONISED) as found:
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)


@contextmanager
def collected_warnings(text: str) -> Iterator[list[str]]:
    """Collect the warnings that contain ``text``. Others are filtered and shown as without this context."""
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f"(?s).*{re.escape(text)}")
        show = warnings.showwarning

        def collect(message: Any, category: Any, *place: Any, **options: Any) -> None:
            if text in str(message):
                found.append(str(message))
            else:
                show(message, category, *place, **options)

        warnings.showwarning = collect
        yield found
