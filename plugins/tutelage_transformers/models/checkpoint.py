"""Checkpoints that are complete by themselves: merged weights, tokenizer with its template, and the adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tutelage.errors import StageError
from tutelage.exporting.model_card import hub_name
from tutelage_transformers.models.finite import check_trained
from tutelage_transformers.models.shards import save_weights, share_files
from tutelage_transformers.models.tokenizers import keep_saved

ADAPTER_FOLDER = "adapter"


def save(model: Any, tokenizer: Any, output: Path, dtype: Any, start: str) -> None:
    """Write a trained model into the folder ``output`` in Hugging Face's format.

    The adapter of a PEFT model is saved in ``adapter/`` and merged into the weights: the next training starts from
    them, with an adapter of its own. The weights are stored as ``dtype``, whichever type they were trained in.
    ``start`` is the folder or hub name that training started from. Raises ``StageError``, and leaves nothing, if a
    weight is not finite.
    """
    merged = _merged(model, output, start) if hasattr(model, "peft_config") else model
    merged.config.use_cache = True
    _set_stop_tokens(merged.generation_config, tokenizer)
    merged.to(dtype)
    try:
        check_trained(merged)
    except StageError:
        shutil.rmtree(output / ADAPTER_FOLDER, ignore_errors=True)
        raise
    save_weights(merged, output)
    share_files(output)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(output)
    keep_saved(tokenizer, output)


def _merged(model: Any, output: Path, start: str) -> Any:
    """Save the adapter and return the merged model.

    The adapter's config names the base model only if it is on the hub. The path of a run's folder is left out: on
    another machine it would not exist, or would be read as the hub name of another model.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = hub_name(start)
    model.get_base_model().name_or_path = ""  # PEFT would take the base model's name from it
    config.target_modules = sorted(config.target_modules)  # a set: its order would differ from process to process
    model.save_pretrained(output / ADAPTER_FOLDER)
    (output / ADAPTER_FOLDER / "README.md").unlink()  # PEFT's empty form
    return model.merge_and_unload()


def _set_stop_tokens(settings: Any, tokenizer: Any) -> None:
    """Make generation in other programs stop at the token that ends trained answers, besides the base model's own."""
    named = settings.eos_token_id
    ends = named if isinstance(named, list) else [named]
    if tokenizer.eos_token_id not in ends:
        settings.eos_token_id = [tokenizer.eos_token_id, *(end for end in ends if end is not None)]
    settings.pad_token_id = tokenizer.pad_token_id
    settings._from_model_config = False  # else transformers may derive the settings from config.json again
