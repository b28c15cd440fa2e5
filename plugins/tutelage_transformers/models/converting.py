"""Checkpoints in another type, quantised, or in another format, for ``tutelage export``."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from tutelage.errors import PluginError
from tutelage.installation import install_command
from tutelage.plugin_info import Conversion
from tutelage_transformers.models import gguf_export
from tutelage_transformers.models.finding import explain_read_errors, require
from tutelage_transformers.models.quiet import quiet
from tutelage_transformers.models.shards import share_files

_REWRITTEN = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "config.json")


def convert(checkpoint: Path, output: Path, conversion: Conversion) -> None:
    """Write the checkpoint into the empty folder ``output``, its weights in another type, quantised or as GGUF.

    Quantisation is done by bitsandbytes, in the format that transformers and vLLM load: LLM.int8 (Dettmers et al.,
    2022) or NF4 (Dettmers et al., 2023). It needs no GPU. Raises ``PluginError`` if a package is missing, and
    ``InputError`` if the checkpoint cannot be read.
    """
    if conversion.format == "gguf":
        gguf_export.write(checkpoint, output, conversion)
        return
    require("torch", "transformers", "safetensors", "accelerate")
    _require_bitsandbytes(conversion)
    with explain_read_errors(str(checkpoint)), quiet():
        model = _read(checkpoint, conversion)
        shutil.copytree(checkpoint, output, ignore=shutil.ignore_patterns(*_REWRITTEN), dirs_exist_ok=True)
        model.save_pretrained(output)
        share_files(output)


def _read(checkpoint: Path, conversion: Conversion) -> Any:
    import torch
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    dtype = getattr(torch, conversion.dtype) if conversion.dtype else "auto"
    options: dict[str, Any] = {}
    if conversion.quantize:
        compute = getattr(torch, conversion.dtype or "bfloat16")
        options = {"quantization_config": _quantisation(conversion, compute), "device_map": _device()}
    return AutoModelForCausalLM.from_pretrained(
        str(checkpoint), dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
    )


def _quantisation(conversion: Conversion, compute: Any) -> Any:
    from transformers.utils.quantization_config import BitsAndBytesConfig

    if conversion.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _device() -> str:
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _require_bitsandbytes(conversion: Conversion) -> None:
    if conversion.quantize and importlib.util.find_spec("bitsandbytes") is None:
        raise PluginError(
            "plugin transformers: bitsandbytes is not installed, and quantisation needs it; "
            f"run: {install_command('transformers-4bit')}"
        )
