"""What fits into a device in training: the number of rows at once, and whether gradient checkpointing is needed.

Everything here is an estimate, made before training starts. It depends on the shapes of the model and the longest
examples, not on the memory that is free at the moment, so that a repeated run divides its steps in the same way. The
division changes no result: a step learns from the same rows however many the device holds at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.objectives import Lora, Objective
from tutelage_transformers.models.experts import experts_of
from tutelage_transformers.models.support import caps_scores, query_heads
from tutelage_transformers.models.weights import is_target
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training import adapters, cpu_memory
from tutelage_transformers.training.objectives import section_of, smallest_batch

_BUSY_TOKENS = 4096
"""Tokens that keep a GPU busy. Gradient checkpointing is preferred to holding fewer at once."""
USABLE_SHARE = 0.85
"""Usable share of a GPU's memory. The CUDA context takes the rest, and fragmentation, which grows in long trainings."""
_CHECKPOINTING_FROM = 500_000_000
"""Number of parameters from which gradient checkpointing is used on a device whose memory is not estimated."""
_GIB = 2**30


@frozen
class StepDivision:
    """How a step is divided."""

    rows: int
    """Number of examples or pairs that the device holds at once (``micro_batch_size``)."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""


def divide_step(
    objective: Objective, model: Any, lengths: Sequence[int], packed: bool, settings: TransformersSettings
) -> StepDivision:
    """Return the division that the recipe and the settings name; what they leave open is the fastest that fits.

    ``lengths`` are the tokens that each row takes (both answers of a pair). Raises ``InputError`` if the requested
    division does not fit, or if one row with gradient checkpointing does not. On a CPU the machine's memory is counted.
    An accelerate config may spread the model over GPUs: then nothing is estimated, as on Apple's GPU, and the requested
    division is tried.
    """
    if objective.batch_size < (least := smallest_batch(objective)):
        raise InputError(
            f"batch_size: a device computes {objective.batch_size} of a step, and {objective.label} needs at least "
            f"{least} at once: raise batch_size, or use fewer processes"
        )
    checkpointing = settings.gradient_checkpointing
    sequence = longest_sequence(objective, lengths)
    if settings.accelerate_config is None and model.device.type == "cuda":
        capacity = int(USABLE_SHARE * device_memory(model.device))
        return fastest_division(
            objective,
            checkpointing,
            lengths if packed else padded_lengths(lengths),
            capacity,
            lambda tokens, checkpointing: training_bytes(objective, model, tokens, sequence, packed, checkpointing),
        )
    usable = cpu_memory.usable_bytes(settings.processes or 1) if model.device.type == "cpu" else None
    if settings.accelerate_config is not None or usable is None:
        large = int(model.num_parameters()) > _CHECKPOINTING_FROM
        rows = objective.micro_batch_size or objective.batch_size
        return StepDivision(rows, large if checkpointing is None else checkpointing)
    adapter = 0 if objective.lora is None else adapter_size(model, objective.lora)

    def needed(tokens: int, checkpointing: bool) -> int:
        return cpu_memory.step_bytes(objective, model, adapter, tokens, sequence, checkpointing)

    return fastest_division(
        objective, checkpointing, padded_lengths(lengths), usable, needed, busy_tokens=1, device="this machine"
    )


def padded_lengths(lengths: Sequence[int]) -> Sequence[int]:
    """Return the tokens that each row takes in a batch that may have the longest row and is padded to its length."""
    return [max(lengths)] * len(lengths)


def longest_sequence(objective: Objective, lengths: Sequence[int]) -> int:
    """Return the tokens of the longest sequence; ``lengths`` are those of each row, and a pair has two sequences."""
    return max(lengths) // 2 if objective.examples == "preferences" else max(lengths)


def fastest_division(
    objective: Objective,
    checkpointing: bool | None,
    lengths: Sequence[int],
    capacity: int,
    needed: Callable[[int, bool], int],
    busy_tokens: int = _BUSY_TOKENS,
    device: str = "the GPU",
) -> StepDivision:
    """Return the fastest division for which ``needed(tokens at once, checkpointing)`` is at most ``capacity``.

    That is the one without checkpointing and with as many rows as fit, unless these have fewer than ``busy_tokens``,
    too few to keep a GPU busy. The longest rows are counted, because they may be in one batch. Raises ``InputError``,
    which names the ``device``, if nothing fits.
    """
    requested = objective.micro_batch_size
    possible = range(objective.batch_size, smallest_batch(objective) - 1, -1)
    sizes = [requested] if requested else [rows for rows in possible if objective.batch_size % rows == 0]
    longest = sorted(lengths, reverse=True)
    tokens = {rows: sum(longest[:rows]) for rows in sizes}
    choices = [checkpointing] if checkpointing is not None else [False, True]
    fitting = [StepDivision(n, choice) for choice in choices for n in sizes if needed(tokens[n], choice) <= capacity]
    if not fitting:
        smallest = StepDivision(sizes[-1], choices[-1])
        raise InputError(
            _too_small(objective, smallest, needed(tokens[smallest.rows], smallest.checkpointing), capacity, device)
        )
    busy = [division for division in fitting if division.rows == sizes[0] or tokens[division.rows] >= busy_tokens]
    return (busy or fitting)[0]


def _too_small(objective: Objective, smallest: StepDivision, needed: int, capacity: int, device: str) -> str:
    advice = f"a smaller model or a larger {'GPU' if device == 'the GPU' else 'machine'}"
    if objective.lora is None:
        advice = "an adapter (lora) in place of full fine-tuning, " + advice
    elif smallest.rows > 1 or not smallest.checkpointing:
        advice = "micro_batch_size and gradient_checkpointing left open, " + advice
    else:
        quantised = "settings.quantization: 4bit, " if device == "the GPU" else ""
        advice = f"{quantised}a smaller max_length, {advice}"
    return (
        f"{device} is too small for this training: it takes about {needed / _GIB:.1f} GiB with {smallest.rows} at "
        f"once, and {capacity / _GIB:.1f} GiB can be used; try {advice}"
    )


@contextmanager
def explain_out_of_memory(objective: Objective, rows: int) -> Iterator[None]:
    """Turn running out of GPU memory with ``rows`` at once, which the estimate should prevent, into an ``InputError``.

    The message says what to set.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        kind = section_of(objective)
        smaller = (
            f"set {kind}.micro_batch_size to {rows // 2} or less; the same run then continues"
            if rows > 1
            else "set models.student.settings.quantization to 4bit, or take a smaller model or max_length"
        )
        raise InputError(
            f"plugin transformers: the GPU ran out of memory in training, with {rows} at once; {smaller}"
        ) from error


def device_memory(device: Any) -> int:
    """Return the bytes of the GPU's memory that this process may use."""
    import torch

    share = torch.cuda.get_per_process_memory_fraction(device)
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def training_bytes(
    objective: Objective, model: Any, tokens: int, longest: int, packed: bool, checkpointing: bool
) -> int:
    """Estimate the bytes of a training step that holds ``tokens`` tokens at once; meant to be slightly too high.

    The tokens are in sequences of at most ``longest``. ``model`` is the base before an adapter is added. The sum of:
    its weights; what is trained (weights, gradients and Adam's two moments, in the type of the weights); the
    activations that are kept for the backward pass; the gradients of activations; and the tiles of the head.
    """
    config = model.config.get_text_config()
    adapted = objective.lora is not None
    layers, hidden, vocabulary = (
        int(size) for size in (config.num_hidden_layers, config.hidden_size, config.vocab_size)
    )
    drops_again = objective.lora is not None and packed and _drops_again(model, objective.lora)
    inner = _inner_size(model)
    scores = 0 if packed else _score_bytes(config, longest)
    layer = _activation_bytes(hidden, inner, adapted, packed, drops_again) + scores
    kept = layers * hidden * (2 if adapted else 4) + layer if checkpointing else layers * layer
    gradients = 6 * inner + 8 * hidden + 2 * scores
    head = 6 * min(tokens, 4096) * min(vocabulary, 32_768)
    return _state_bytes(objective, model) + tokens * (kept + gradients) + head


def _state_bytes(objective: Objective, model: Any) -> int:
    adapter = 0 if objective.lora is None else adapter_size(model, objective.lora)
    return state_bytes(objective, int(model.get_memory_footprint()), adapter)


def state_bytes(objective: Objective, footprint: int, adapter: int) -> int:
    """Estimate the bytes of weights, gradients and optimizer, without any activation.

    ``footprint`` is the number of bytes of the weights in the type that they are trained in, ``adapter`` the number of
    weights of the adapter.
    """
    if objective.lora is not None:
        return footprint + 16 * adapter
    return 4 * footprint + footprint // 2  # float32, and autocast's copies in half precision


def _activation_bytes(hidden: int, inner: int, adapted: bool, packed: bool, drops_again: bool) -> int:
    """Return the bytes of one token in one layer, in half precision.

    The coefficients were measured with ``torch.autograd.graph.saved_tensors_hooks``. With an adapter and its dropout
    the inputs of all its layers are kept, each with a mask; if ``drops_again``, the inputs alone, which some layers
    share. Without packing, autocast and the unfused activation keep about half as much again.
    """
    if drops_again:
        return 28 * hidden + 9 * inner // 2
    if adapted:
        return 40 * hidden + 5 * inner if packed else 60 * hidden + 10 * inner
    return 46 * hidden + 4 * inner if packed else 58 * hidden + 5 * inner


def _score_bytes(config: Any, longest: int) -> int:
    """Return the bytes of one token's attention scores in one layer, which only transformers' eager attention keeps.

    It keeps the probabilities in float32 and in half precision, and the capped scores in half precision.
    """
    if config._attn_implementation != "eager":
        return 0
    return query_heads(config) * longest * (8 if caps_scores(config) else 6)


def _drops_again(model: Any, lora: Lora) -> bool:
    """Return whether the layers of a packed training compute the mask of their dropout again in the backward pass.

    They then keep no dropped input and no mask. Training in float16 uses autocast, which gives some layers an input in
    float32: these keep both, as do GPT-2's layers. Experts of a mixture have adapters of another kind.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    if model.dtype != torch.bfloat16 or getattr(model, "is_quantized", False) or experts_of(model):
        return False
    if any(isinstance(module, Conv1D) for module in model.modules()):
        return False
    return adapters.has_kernels(model.device, model.dtype, lora.r)


def _inner_size(model: Any) -> int:
    """Return the width of the feed-forward block, twice that for a gated one (Llama's, Gemma's)."""
    config = model.config.get_text_config()
    activation = str(getattr(config, "hidden_act", ""))
    gated = "silu" in activation or "swi" in activation
    gated = gated or any(name.endswith("gate_proj") for name, _ in model.named_modules())  # gated GELU is not named so
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return int(max(inner) if isinstance(inner, list) else inner) * (2 if gated else 1)


def adapter_size(model: Any, lora: Lora) -> int:
    """Return the number of weights of a LoRA adapter on the linear layers that it names, without the head."""
    head = model.get_output_embeddings()
    shapes = (
        (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and module is not head and is_target(lora, name)
    )
    return sum(lora.r * (inputs + outputs) for inputs, outputs in shapes)
