"""How many answers fit into memory at once."""

from __future__ import annotations

from typing import Any

MOST_ROWS = 512
"""Beyond that a batch gains nothing: keys and values are read once a row, and the slowest rows wait the longer."""
_CPU_BYTES = 2 * 2**30
"""For keys and values on a CPU: little beside the weights of a model that needs it, plenty for a small one."""
_GPU_SHARE = 0.6
"""Of the GPU memory that the weights leave: the rest is for activations and for copies of the cache."""
_GPU_RESERVE = 0.12
"""Of the GPU's memory: for activations, logits and what the libraries take for themselves."""


def rows_that_fit(model: Any, length: int) -> int:
    """Rows of ``length`` tokens whose keys and values fit, 1 to ``MOST_ROWS``.

    It follows from the model and the device alone, not from what happens to be free: the batch must be the same when a
    run is repeated.
    """
    return max(1, min(MOST_ROWS, _cache_bytes(model) // (length * bytes_per_token(model))))


def bytes_per_token(model: Any) -> int:
    """Memory of one token's keys and values in all layers."""
    layers, heads, size = key_shape(model)
    return int(2 * layers * heads * size * model.dtype.itemsize)


def key_shape(model: Any) -> tuple[int, int, int]:
    """Layers, heads of keys in a layer, and numbers of a key."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers), int(heads), int(size)


def _cache_bytes(model: Any) -> int:
    import torch

    if model.device.type != "cuda":
        return _CPU_BYTES
    total = torch.cuda.get_device_properties(model.device).total_memory
    return int(_GPU_SHARE * max(0, total - model.get_memory_footprint()))


def bytes_for_pages(model: Any) -> int:
    """Memory that the keys and values of running rows may take beside everything else that is there now.

    How many rows run does not follow from the device alone, then: a row's reply depends on it by rounding at most.
    """
    import torch

    if model.device.type != "cuda":
        return _CPU_BYTES
    free, total = torch.cuda.mem_get_info(model.device)
    return int(max(0, free - _GPU_RESERVE * total))
