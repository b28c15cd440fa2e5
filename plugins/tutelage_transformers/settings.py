"""The settings of the plugin, which a recipe sets under ``models.ROLE.settings``."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen, validators

from tutelage.context import Context
from tutelage.errors import PluginError

DEFAULT_MODEL = "microsoft/phi-2"
"""The base model of the published method."""
DEFAULT_LICENSE = "mit"
"""The licence of its weights, according to its card on the hub."""

NEUTRAL_SETTINGS = (
    "device",
    "batch_size",
    "local_files_only",
    "threads",
    "gradient_checkpointing",
    "cuda_graphs",
    "checkpoint_minutes",
    "processes",
    "accelerate_config",
)
"""Settings that change no result, or only the rounding of sums. The others change what is sampled or trained."""

_not_negative: Any = validators.optional(validators.ge(0))
_at_least_one = validators.optional(validators.ge(1))


@frozen
class TransformersSettings:
    """How the model is loaded and run. Sampling and the objective are keys of the recipe itself."""

    device: str = "auto"
    """Device of the model: auto (a GPU if there is one, also Apple's), cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights: auto is bfloat16 on a GPU (float16 on one before NVIDIA's Ampere), and float32 on a CPU and
    on Apple's GPU."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention of transformers: auto is eager on a CPU, where it decodes fastest, and for a model that caps its
    attention scores (Gemma 2), and sdpa otherwise."""
    engine: Literal["auto", "paged", "padded"] = "auto"
    """How completions are generated: auto is paged (a batch that stays full) on an NVIDIA GPU if the model supports
    it (docs/models.md), and padded batches otherwise."""
    batch_size: int | None = field(default=None, validator=_at_least_one)
    """Maximum number of sequences that are generated at once; if left out, as many as fit into memory, at most 512."""
    local_files_only: bool = False
    """Never ask the hub: a model that is not on this machine is an error."""
    threads: int | None = field(default=None, validator=_at_least_one)
    """CPU threads of torch; if left out, torch's own choice."""
    gradient_checkpointing: bool | None = None
    """Save memory in training for a third more time; if left out, only if the device is too small without it."""
    packing: bool | None = None
    """Train without padding, on fused layers; if left out, on an NVIDIA GPU if the model supports it."""
    cuda_graphs: bool = True
    """Start the kernels of a packed training step on an NVIDIA GPU by CUDA graphs, if that is possible and faster."""
    adapter_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of an adapter's weights in training: auto is float32, and bfloat16 on a 4-bit base if the GPU
    computes in it."""
    quantization: Literal["none", "4bit"] = "none"
    """Type of the weights below an adapter in training: 4bit (QLoRA, with the extra transformers-4bit) saves memory."""
    checkpoint_minutes: float | None = field(default=10.0, validator=_not_negative)
    """Minutes of training between two training checkpoints, from which a killed training continues; 0 is after every
    step, null is never."""
    processes: int | None = field(default=None, validator=_at_least_one)
    """Number of processes that share training and generation, each on a device of its own; if left out, one for each
    visible GPU, or one on a CPU."""
    accelerate_config: str | None = None
    """Your own accelerate config (YAML), for training by FSDP or on several machines; it replaces processes."""


def settings_of(context: Context) -> TransformersSettings:
    """Return the plugin's settings of a call, or the defaults. Raises ``PluginError`` for settings of another class."""
    if context.settings is None:
        return TransformersSettings()
    if not isinstance(context.settings, TransformersSettings):
        kind = type(context.settings).__name__
        raise PluginError(
            f"plugin transformers: its settings are a {kind}; "
            "make them a tutelage_transformers.settings.TransformersSettings"
        )
    return context.settings
