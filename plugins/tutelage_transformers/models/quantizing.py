"""QLoRA (Dettmers et al., 2023): training an adapter on a base whose weights are in 4 bits.

The adapter is then merged into the full-precision weights that the base was quantised from. Merged into the 4-bit
weights, it would carry their rounding into every later model.
"""

from __future__ import annotations

from copy import copy
from importlib.util import find_spec
from typing import Any

from tutelage.errors import InputError, PluginError
from tutelage.installation import install_command
from tutelage.objectives import Objective
from tutelage.records import Model
from tutelage_transformers.devices import selection
from tutelage_transformers.models import loading
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.settings import TransformersSettings


def check(objective: Objective, settings: TransformersSettings) -> None:
    """Raise if the settings ask for a 4-bit base that is not possible, before anything is loaded.

    Raises ``InputError`` for full fine-tuning, which 4-bit weights do not allow, and if there is no GPU;
    ``PluginError`` if bitsandbytes is not installed.
    """
    if settings.quantization == "none":
        return
    where = "plugin transformers, settings.quantization: 4bit"
    if objective.lora is None:
        raise InputError(f"{where} needs an adapter to learn on it; give the objective a lora, or leave it out")
    device = selection.device_of(settings)
    if device.type != "cuda":
        raise InputError(f"{where} needs an NVIDIA GPU, and the device is {device}; leave it out")
    if find_spec("bitsandbytes") is None:
        raise PluginError(f"{where}: bitsandbytes is not installed; run: {install_command('transformers-4bit')}")


def read(model: Model, settings: TransformersSettings, dtype: Any) -> LoadedModel:
    """Read the model for training, its linear layers in 4 bits if the settings say so. Raises as ``loading.read``."""
    return loading.read(model, settings, dtype, None if settings.quantization == "none" else four_bit_config(settings))


def four_bit_config(settings: TransformersSettings) -> Any:
    """Return the paper's ``transformers.BitsAndBytesConfig``: 4-bit NormalFloat with quantised scales (section 3)."""
    from transformers.utils.quantization_config import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=selection.half_dtype(selection.device_of(settings)),
    )


def on_full_precision(trained: Any, model: Model, settings: TransformersSettings) -> Any:
    """Return ``trained`` itself or, if its base is in 4 bits, its adapter on ``model`` read again in full precision."""
    if settings.quantization == "none":
        return trained
    return move_adapter(trained, loading.read(model, settings).model)


def move_adapter(trained: Any, base: Any) -> Any:
    """Return the adapter of ``trained`` (a ``PeftModel``) on ``base``, another copy of the weights below it."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = copy(trained.peft_config["default"])
    config.base_model_name_or_path = None  # PEFT would warn of the other copy's name
    moved = get_peft_model(base, config)
    set_peft_model_state_dict(moved, get_peft_model_state_dict(trained, save_embedding_layers=False))
    return moved
