"""Model cards in the format of the Hugging Face hub: metadata in YAML, then Markdown.

The card of a checkpoint has the start model, the method and the number of examples. ``tutelage export`` writes the
whole card from the run. A card contains no text written by a model, no local path and no time, so that equal trainings
give identical files.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml
from attrs import frozen

from tutelage.errors import InputError
from tutelage.files.yaml_text import NotYaml, read_yaml
from tutelage.objectives import Objective

CARD = "README.md"
"""File name of a card on the hub."""
INHERITED = ("base_model", "license", "license_name", "license_link")
"""Metadata keys that a model takes over from the model that it was trained from."""
EXAMPLE_WORDS = {"preferences": "pairs", "labelled": "labelled answers", "examples": "examples"}
"""What an objective trains on, as text."""
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@frozen
class Trained:
    """A training, with what the plugin knows of it."""

    start: str
    """Name of the start model, in the run or on the hub."""
    reference: str | None
    """Name of the reference policy; None if the objective has none."""
    objective: Objective
    examples: int
    """Number of examples, preference pairs or labelled answers."""


def checkpoint_card(trained: Trained, inherited: Mapping[str, Any]) -> str:
    """Make the card of a checkpoint, which the plugin writes after training.

    ``inherited`` is the metadata taken over from the start model (see ``INHERITED``).
    """
    method = trained.objective.label
    metadata = {**standard_metadata(method.lower()), **inherited}
    name = "".join(f", a descendant of `{base}`" for base in [inherited.get("base_model")] if isinstance(base, str))
    reference = f", with the reference {code(trained.reference)}" if trained.reference else ""
    paragraphs = [
        "# A checkpoint of tutelage",
        f"Trained by {method} from {code(trained.start)}{name}{reference}, on {trained.examples:,} "
        f"{EXAMPLE_WORDS[trained.objective.examples]}. The tokenizer has the chat template that it was trained with. "
        "`tutelage export` writes the whole card: recipe, data and measured results.",
        adapter_paragraph(trained.start) if trained.objective.lora else "",
        "## Training",
        objective_table(trained.objective),
    ]
    return card(metadata, paragraphs)


def card(metadata: Mapping[str, Any], paragraphs: Iterable[str]) -> str:
    """Make a card from metadata and paragraphs. Empty paragraphs are left out."""
    front = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, paragraphs)) + "\n"


def standard_metadata(*tags: str) -> dict[str, Any]:
    """Return the metadata that all checkpoints have in common, with these tags added."""
    return {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["tutelage", "trl", *tags]}


def adapter_paragraph(start: str) -> str:
    """Describe the folder ``adapter/`` of a checkpoint; ``start`` is the model of which it is an adapter."""
    return (
        "The weights are merged and need no adapter. The folder `adapter/` additionally has the change made by this "
        f"training: a LoRA adapter of {code(start)}. {code(start)} with this adapter is equal to the merged weights. "
        'Load it with `PeftModel.from_pretrained(model, here, subfolder="adapter")`, where `model` is '
        f"{code(start)}. With the adapter disabled, the answers are those of {code(start)}."
    )


def objective_table(objective: Objective) -> str:
    """Make a table of the hyperparameters of a training."""
    values = attrs.asdict(objective)
    lora = values.pop("lora")
    rows = [(name, "not set" if value is None else f"{value}") for name, value in values.items()]
    if lora and not isinstance(lora["target_modules"], str):
        lora["target_modules"] = " and ".join(lora["target_modules"])
    adapter = ", ".join(f"{name} {value}" for name, value in lora.items()) if lora else "none: full fine-tuning"
    return table(("setting", "value"), [("method", objective.label), *rows, ("LoRA", adapter)])


def hub_name(name: str) -> str | None:
    """Return ``name`` if it has the form OWNER/NAME of the hub and is not a local path; otherwise None."""
    return name if _HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a card; empty if the file does not exist or has no metadata.

    Raises ``InputError`` if the metadata is not YAML.
    """
    if not path.is_file():
        return {}
    found = _FRONT_MATTER.match(path.read_text(encoding="utf-8-sig", errors="replace"))
    try:
        values = read_yaml(found[1]) if found else None
    except NotYaml as error:
        raise InputError(
            f"{path}: the metadata of the model card is not YAML ({error}); correct or remove it"
        ) from error
    return values if isinstance(values, dict) else {}


def inherited_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata that a model takes over from the card of its start model: base model and licence, if set."""
    values = read_metadata(path)
    return {key: values[key] for key in INHERITED if values.get(key)}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a Markdown table; the texts of its cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def plain(text: str) -> str:
    """Return the text on one line, with Markdown and HTML escaped."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """Return the text as inline code, on one line; backticks are removed."""
    return f"`{' '.join(text.replace('`', '').split())}`"


def fenced(text: str, language: str = "") -> str:
    """Return the text as a code block, with a fence that is longer than any fence in the text."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
