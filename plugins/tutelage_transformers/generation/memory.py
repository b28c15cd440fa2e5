"""How many sequences fit into memory at once."""

from __future__ import annotations

from typing import Any

from tutelage_transformers.devices.parallel import device_names
from tutelage_transformers.devices.selection import device_of, kernels_problem
from tutelage_transformers.models.support import query_heads
from tutelage_transformers.settings import TransformersSettings

MAX_SEQUENCES = 512
"""A larger batch is not faster: keys and values are read once per sequence, and long sequences delay the others."""
_CPU_BYTES = 2 * 2**30
"""For keys, values and logits on a CPU: little beside the weights of a model that needs as much, plenty for a small
one."""
_LOGIT_BYTES = 40
"""Of one vocabulary entry of a sequence while its token is sampled: logit, probability, both sorted with their indices,
and their sum in float64."""
_SCORE_BYTES = 8
"""Of one score while a prompt is computed: the score, and its probability in float32 and in the type of the model."""
_GPU_SHARE = 0.6
"""Share of the GPU memory beside the weights; activations and copies of the cache take the rest."""
_GPU_RESERVE = 0.12
"""Share of the GPU's memory that is kept free for activations, logits and the libraries."""


def sequences_at_once(settings: TransformersSettings) -> int | None:
    """Return the number of sequences that GPUs decode in about the time of one; None if batches are padded.

    The padded engine, on CPUs and GPUs without the kernels of the other engine, works through its batches one after the
    other.
    """
    if settings.engine == "padded" or kernels_problem(device_of(settings)):
        return None
    return (settings.batch_size or MAX_SEQUENCES) * len(device_names(settings))


def sequences_that_fit(model: Any, prompt: int, new_tokens: int) -> int:
    """Return how many sequences have room for keys, values, scores and logits, 1 to ``MAX_SEQUENCES``.

    A sequence has up to ``prompt`` tokens at first, and then gets ``new_tokens``. Only transformers' eager attention
    keeps scores: those of one layer, while the prompts are computed. The number depends on the model and the device
    alone, not on the memory that is free at the moment: a repeated run must have the same batches.
    """
    config = model.config.get_text_config()
    needed = (prompt + new_tokens) * bytes_per_token(model) + _LOGIT_BYTES * int(config.vocab_size)
    if config._attn_implementation == "eager":
        needed += _SCORE_BYTES * query_heads(config) * prompt**2
    return max(1, min(MAX_SEQUENCES, _cache_bytes(model) // needed))


def bytes_per_token(model: Any) -> int:
    """Return the memory of one token's keys and values in all layers, in bytes."""
    layers, heads, size = kv_shape(model)
    return int(2 * layers * heads * size * model.dtype.itemsize)


def kv_shape(model: Any) -> tuple[int, int, int]:
    """Return (layers, key-value heads per layer, head dimension). A model without attention (Mamba) has no heads."""
    config = model.config.get_text_config()
    queries = query_heads(config)
    if not queries:
        return int(config.num_hidden_layers), 0, 0
    heads = getattr(config, "num_key_value_heads", None) or queries
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    return int(config.num_hidden_layers), int(heads), int(size)


def _cache_bytes(model: Any) -> int:
    import torch

    if model.device.type != "cuda":
        return _CPU_BYTES
    total = torch.cuda.get_device_properties(model.device).total_memory
    return int(_GPU_SHARE * max(0, total - model.get_memory_footprint()))


def bytes_for_blocks(model: Any) -> int:
    """Return the bytes that the blocks of a paged cache may take beside everything that is in memory now.

    So the number of blocks, and of sequences that run at once, depends on more than the device. A completion depends on
    that number by rounding at most.
    """
    import torch

    if model.device.type != "cuda":
        return _CPU_BYTES
    free, total = torch.cuda.mem_get_info(model.device)
    return int(max(0, free - _GPU_RESERVE * total))
