"""Checkpoints that are complete by themselves: merged weights, tokenizer with its template, and the adapter beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.exporting.model_card import hub_name

ADAPTER_FOLDER = "adapter"


def save(model: Any, tokenizer: Any, output: Path, dtype: Any, start: str) -> None:
    """Write a trained model into the folder ``output`` in Hugging Face's format.

    A PEFT model's adapter goes into ``adapter/``, and its weights are merged: the next step starts from them, with an
    adapter of its own. The weights are stored as ``dtype``, whatever type they were trained in. ``start`` is where the
    training started from, a folder or a hub name.
    """
    merged = _merged(model, output, start) if hasattr(model, "peft_config") else model
    merged.config.use_cache = True
    _end_answers(merged.generation_config, tokenizer)
    merged.to(dtype).save_pretrained(output)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(output)


def _merged(model: Any, output: Path, start: str) -> Any:
    """Save the adapter, and merge it.

    What it is an adapter of is named where everybody can find it, on the hub. The folder of a run is named by the card
    alone: moved to another machine its path would lead nowhere, or, being read as a hub name, to a stranger's weights.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = hub_name(start)
    model.get_base_model().name_or_path = ""  # with which PEFT would fill the gap
    config.target_modules = sorted(config.target_modules)  # a set: its order would differ from process to process
    model.save_pretrained(output / ADAPTER_FOLDER)
    (output / ADAPTER_FOLDER / "README.md").unlink()  # PEFT's form, with nothing filled in
    return model.merge_and_unload()


def _end_answers(settings: Any, tokenizer: Any) -> None:
    """Let generation elsewhere end where answers were trained to end, besides where the base model ended."""
    named = settings.eos_token_id
    ends = named if isinstance(named, list) else [named]
    if tokenizer.eos_token_id not in ends:
        settings.eos_token_id = [tokenizer.eos_token_id, *(end for end in ends if end is not None)]
    settings.pad_token_id = tokenizer.pad_token_id
    settings._from_model_config = False  # else transformers may make the settings anew of config.json
