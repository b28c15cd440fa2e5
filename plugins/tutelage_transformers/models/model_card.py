"""The card of a checkpoint: the models that it was trained from, and the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.exporting.model_card import CARD, Trained, checkpoint_card, hub_name, inherited_metadata
from tutelage.files.jsonl import read_rows
from tutelage.objectives import Objective
from tutelage.records import Model
from tutelage_transformers.models import loading
from tutelage_transformers.settings import DEFAULT_LICENSE, DEFAULT_MODEL


def write(output: Path, start: Model, reference: Model | None, objective: Objective, examples: Path) -> None:
    """Write ``README.md`` of a checkpoint: objective, number of examples, and base model and licence if known."""
    near = (reference or start) if objective.has_reference else None
    count = sum(1 for _ in read_rows(examples))
    trained = Trained(name_of(start), name_of(near) if near else None, objective, count)
    (output / CARD).write_text(checkpoint_card(trained, inherited(start)), encoding="utf-8")


def name_of(model: Model) -> str:
    """Return the name of a model for publishing: its hub name, else its id in the run. Never a path of this machine."""
    return hub_name(loading.location(model)) or model.id or "a model of this machine"


def inherited(start: Model) -> dict[str, Any]:
    """Return base model and licence, from the card of the model that training starts from."""
    location = loading.location(start)
    if not hub_name(location):
        return inherited_metadata(Path(location) / CARD)
    found = inherited_metadata(_cached_card(location))
    known = {"license": DEFAULT_LICENSE} if location == DEFAULT_MODEL else {}
    return {**known, **found, "base_model": location}


def _cached_card(name: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, CARD)
    return Path(cached if isinstance(cached, str) else CARD + " is not in the hub's cache")
