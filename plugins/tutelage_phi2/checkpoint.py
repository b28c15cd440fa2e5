"""Checkpoints that are complete by themselves: merged weights, tokenizer with its template, and the adapter beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ADAPTER_FOLDER = "adapter"


def save(model: Any, tokenizer: Any, output: Path, dtype: Any) -> None:
    """Write a trained model into the folder ``output`` in Hugging Face's format.

    A PEFT model's adapter goes into ``adapter/``, and its weights are merged: the next step starts from them, with an
    adapter of its own. The weights are stored as ``dtype``, whatever type they were trained in.
    """
    merged = _merged(model, output) if hasattr(model, "peft_config") else model
    merged.config.use_cache = True
    merged.to(dtype).save_pretrained(output)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(output)


def _merged(model: Any, output: Path) -> Any:
    model.save_pretrained(output / ADAPTER_FOLDER)
    (output / ADAPTER_FOLDER / "README.md").unlink()  # PEFT's form, with nothing filled in
    return model.merge_and_unload()
