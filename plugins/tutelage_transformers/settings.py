"""What a recipe may set for this plugin."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen, validators

from tutelage.context import Context
from tutelage.errors import PluginError

DEFAULT_MODEL = "microsoft/phi-2"
"""The base model of the published method."""
DEFAULT_LICENSE = "mit"
"""The licence of its weights, as its card on the hub says."""


def _setting(default: Any, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"help": help}, **options)


_not_negative = validators.optional(validators.ge(0))
_at_least_one = validators.optional(validators.ge(1))


@frozen
class TransformersSettings:
    """How the model is loaded and run. What it is asked for (sampling, objective) stands in the recipe's own keys."""

    device: str = _setting("auto", "Where it runs: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _setting(
        "auto", "Type of the weights: auto is float32 on a CPU and bfloat16 on a GPU."
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = _setting(
        "auto", "Attention of transformers: auto is eager on a CPU, where it decodes fastest, and sdpa on a GPU."
    )
    engine: Literal["auto", "paged", "padded"] = _setting(
        "auto",
        "How answers are generated: auto is paged (a batch that stays full) on an NVIDIA GPU, where all of the model's "
        "layers attend to the whole sequence, and padded batches elsewhere.",
    )
    batch_size: int | None = _setting(
        None,
        "Answers that are generated at once; left out, as many as fit into memory, 512 at most.",
        validator=_at_least_one,
    )
    local_files_only: bool = _setting(False, "Never ask the hub: a model that is not on this machine is an error.")
    threads: int | None = _setting(None, "CPU threads of torch; left out, torch's own choice.", validator=_at_least_one)
    gradient_checkpointing: bool | None = _setting(
        None, "Save memory in training for a third more time; left out, only where the GPU is too small without it."
    )
    packing: bool | None = _setting(
        None, "Train without padding, on fused layers; left out, on a GPU where the model allows it."
    )
    adapter_dtype: Literal["auto", "float32", "bfloat16"] = _setting(
        "auto",
        "Type in which an adapter's weights are kept while they learn: auto is float32, under a 4-bit base bfloat16.",
    )
    quantization: Literal["none", "4bit"] = _setting(
        "none",
        "How the weights under an adapter are held in training: 4bit (QLoRA, with tutelage[transformers-4bit]) saves "
        "memory.",
    )
    checkpoint_minutes: float | None = _setting(
        10.0,
        "Minutes of training after which its state is kept, for a killed training to go on from; 0 is after every "
        "step, null is never.",
        validator=_not_negative,
    )
    processes: int | None = _setting(
        None,
        "Processes that share training and generation, each on a device of its own; left out, one for each visible "
        "GPU, on a CPU one.",
        validator=_at_least_one,
    )
    accelerate_config: str | None = _setting(
        None, "Your own accelerate config (YAML), for training by FSDP or on several machines, in place of processes."
    )


def settings_of(context: Context) -> TransformersSettings:
    """The plugin's settings of this call; the defaults where it has none. Raises ``PluginError`` for other settings."""
    if context.settings is None:
        return TransformersSettings()
    if not isinstance(context.settings, TransformersSettings):
        kind = type(context.settings).__name__
        raise PluginError(
            f"plugin transformers: its settings are a {kind}; "
            "make them a tutelage_transformers.settings.TransformersSettings"
        )
    return context.settings
