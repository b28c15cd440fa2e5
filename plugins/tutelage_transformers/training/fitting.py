"""What fits into a GPU in training: how many rows at once, and whether activations must be computed twice.

Everything here is an estimate, made before hours are spent: from the shapes of the model and the longest examples, not
from what happens to be free, so that a repeated run divides its steps alike. Division changes no result: a step learns
from the same rows however many the device holds at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.records import Objective, Sft
from tutelage_transformers.settings import TransformersSettings

_ENOUGH_TOKENS = 4096
"""That keep a GPU busy. Rather than hold fewer at once, activations are computed twice (gradient checkpointing)."""
_USABLE = 0.85
"""Of a GPU's memory: the rest is the CUDA context, and holes between blocks, of which long trainings have more."""
_CHECKPOINTING_FROM = 500_000_000
"""Parameters from which gradient checkpointing is worth its time where nothing tells what fits."""
_GIB = 2**30


@frozen
class StepDivision:
    """How a step is divided."""

    rows: int
    """Examples or pairs that the device holds at once (``micro_batch_size``)."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""


def divide_step(
    objective: Objective, model: Any, lengths: Sequence[int], packed: bool, settings: TransformersSettings
) -> StepDivision:
    """What the recipe and the settings say, and where they leave it open, the fastest that fits into the GPU.

    ``lengths`` are the tokens that each row takes (both answers of a pair). Raises ``InputError`` where not even what
    is asked for, or one row at a time with checkpointing, fits. A user's accelerate config may spread the model over
    GPUs: there nothing is estimated, and all that is asked for is tried.
    """
    rows, checkpointing = objective.micro_batch_size, settings.gradient_checkpointing
    if model.device.type != "cuda" or settings.accelerate_config is not None:
        large = int(model.num_parameters()) > _CHECKPOINTING_FROM
        return StepDivision(rows or objective.batch_size, large if checkpointing is None else checkpointing)
    capacity = int(_USABLE * device_memory(model.device))
    return fastest_division(
        objective,
        checkpointing,
        lengths,
        capacity,
        lambda tokens, twice: training_bytes(objective, model, tokens, packed, twice),
    )


def fastest_division(
    objective: Objective,
    checkpointing: bool | None,
    lengths: Sequence[int],
    capacity: int,
    needed: Callable[[int, bool], int],
) -> StepDivision:
    """The fastest division of which ``needed(tokens at once, checkpointing)`` is at most ``capacity``.

    Without checkpointing and with as many rows as fit, unless these are too few to keep a GPU busy. Counted are the
    longest rows, which may meet in a batch. Raises ``InputError`` where nothing fits.
    """
    asked = objective.micro_batch_size
    sizes = [asked] if asked else [n for n in range(objective.batch_size, 0, -1) if objective.batch_size % n == 0]
    longest = sorted(lengths, reverse=True)
    tokens = {rows: sum(longest[:rows]) for rows in sizes}
    ways = [checkpointing] if checkpointing is not None else [False, True]
    fitting = [StepDivision(n, twice) for twice in ways for n in sizes if needed(tokens[n], twice) <= capacity]
    if not fitting:
        smallest = StepDivision(sizes[-1], ways[-1])
        raise InputError(
            _too_small(objective, smallest, needed(tokens[smallest.rows], smallest.checkpointing), capacity)
        )
    busy = [one for one in fitting if one.rows == sizes[0] or tokens[one.rows] >= _ENOUGH_TOKENS]
    return (busy or fitting)[0]


def _too_small(objective: Objective, smallest: StepDivision, needed: int, capacity: int) -> str:
    advice = "a smaller model or a larger GPU"
    if objective.lora is None:
        advice = "an adapter (lora) in place of full fine-tuning, " + advice
    elif smallest.rows > 1 or not smallest.checkpointing:
        advice = "micro_batch_size and gradient_checkpointing left open, " + advice
    else:
        advice = "settings.quantization: 4bit, a smaller max_length, " + advice
    return (
        f"the GPU is too small for this training: it takes about {needed / _GIB:.1f} GiB with {smallest.rows} at once, "
        f"and {capacity / _GIB:.1f} GiB can be used; try {advice}"
    )


@contextmanager
def explain_out_of_memory(objective: Objective, rows: int) -> Iterator[None]:
    """Turn a GPU that runs out of memory with ``rows`` at once, against the estimate, into an ``InputError``.

    It says what to set.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        kind = "sft" if isinstance(objective, Sft) else "dpo"
        smaller = (
            f"set {kind}.micro_batch_size to {rows // 2} or less, with which the same run goes on"
            if rows > 1
            else "set models.student.settings.quantization to 4bit, or take a smaller model or max_length"
        )
        raise InputError(
            f"plugin transformers: the GPU ran out of memory in training, with {rows} at once; {smaller}"
        ) from error


def device_memory(device: Any) -> int:
    """Bytes of the GPU that this process may use."""
    import torch

    share = torch.cuda.get_per_process_memory_fraction(device)
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def training_bytes(objective: Objective, model: Any, tokens: int, packed: bool, checkpointing: bool) -> int:
    """Memory of a training step that holds ``tokens`` tokens at once: an estimate, meant to be a little too large.

    ``model`` is the base before an adapter is put on it. The sum of its weights, of what learns (weights, gradients and
    Adam's two moments in the type of the weights), of the activations kept for the backward pass, of gradients on their
    way, and of the head's tiles.
    """
    config = model.config.get_text_config()
    adapted = objective.lora is not None
    layers, hidden, vocabulary = (
        int(size) for size in (config.num_hidden_layers, config.hidden_size, config.vocab_size)
    )
    layer = _activation_bytes(config, adapted, packed)
    kept = layers * hidden * (2 if adapted else 4) + layer if checkpointing else layers * layer
    passing = 6 * _inner_size(config) + 8 * hidden
    head = 6 * min(tokens, 4096) * min(vocabulary, 32_768)
    return _state_bytes(objective, model) + tokens * (kept + passing) + head


def _state_bytes(objective: Objective, model: Any) -> int:
    footprint = int(model.get_memory_footprint())
    if objective.lora is not None:
        return footprint + 16 * adapter_size(model, objective.lora.r)
    return 4 * footprint + footprint // 2  # float32, and autocast's copies in half precision


def _activation_bytes(config: Any, adapted: bool, packed: bool) -> int:
    """Of one token in one layer, in half precision: counted with ``torch.autograd.graph.saved_tensors_hooks``.

    With an adapter and its dropout the inputs of all its layers are kept, each with a mask; without packing, autocast
    and the unfused activation keep about half as much again.
    """
    hidden, inner = int(config.hidden_size), _inner_size(config)
    if adapted:
        return 40 * hidden + 5 * inner if packed else 60 * hidden + 10 * inner
    return 46 * hidden + 4 * inner if packed else 58 * hidden + 5 * inner


def _inner_size(config: Any) -> int:
    """Width within the feed-forward block; a gated one (Llama's) has it twice."""
    gated = "silu" in str(getattr(config, "hidden_act", "")) or "swi" in str(getattr(config, "hidden_act", ""))
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return int(inner) * (2 if gated else 1)


def adapter_size(model: Any, rank: int) -> int:
    """Weights of a LoRA adapter of this rank on all linear layers but the head."""
    head = model.get_output_embeddings()
    shapes = (
        (module.in_features, module.out_features)
        for module in model.modules()
        if hasattr(module, "in_features") and module is not head
    )
    return sum(rank * (wide + high) for wide, high in shapes)
