"""Model cards in the hub's form: metadata in YAML, then Markdown.

A checkpoint says what it was trained from, how, and on how many examples; ``tutelage export`` adds what the run knows.
No card holds a text that a model wrote, a path of this machine, or a time: equal trainings give equal bytes.
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
from tutelage.records import Dpo, Objective

CARD = "README.md"
"""The name under which the hub looks for a card."""
INHERITED = ("base_model", "license", "license_name", "license_link")
"""What a model has of the one that it was trained from, in the hub's words."""
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@frozen
class Trained:
    """One training, as far as the plugin that does it knows."""

    start: str
    """The model that it started from, by its name in the run or on the hub."""
    reference: str | None
    """The policy that DPO stayed near; None for SFT."""
    objective: Objective
    examples: int


def checkpoint_card(trained: Trained, inherited: Mapping[str, Any]) -> str:
    """The card that lies in a checkpoint as it was trained.

    ``inherited`` is metadata of the model that it was trained from (see ``INHERITED``).
    """
    method = method_of(trained.objective)
    metadata = {**standard_metadata(method.lower()), **inherited}
    name = "".join(f", a descendant of `{base}`" for base in [inherited.get("base_model")] if isinstance(base, str))
    near = f", staying near {code(trained.reference)}" if trained.reference else ""
    paragraphs = [
        "# A checkpoint of tutelage",
        f"Trained by {method} from {code(trained.start)}{name}{near}, on {trained.examples:,} "
        f"{'pairs' if method == 'DPO' else 'examples'}. The tokenizer has the chat template that it was trained with. "
        "`tutelage export` writes the whole card: recipe, data and measured results.",
        adapter_paragraph(trained.start) if trained.objective.lora else "",
        "## Training",
        objective_table(trained.objective),
    ]
    return card(metadata, paragraphs)


def card(metadata: Mapping[str, Any], paragraphs: Iterable[str]) -> str:
    """A whole card. Empty paragraphs are left out."""
    front = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, paragraphs)) + "\n"


def standard_metadata(*tags: str) -> dict[str, Any]:
    """What the hub's cards say of every checkpoint: how it is loaded, and what for."""
    return {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["tutelage", "trl", *tags]}


def adapter_paragraph(start: str) -> str:
    """What lies in ``adapter/``, and what it is an adapter of."""
    return (
        "The weights are merged and need no adapter. `adapter/` holds, beside them, what this training added: a LoRA "
        f"adapter of {code(start)}, whose weights with it are these. Load it with "
        '`PeftModel.from_pretrained(model, here, subfolder="adapter")` on that very model; with the adapter off, that '
        "model answers."
    )


def method_of(objective: Objective) -> str:
    """SFT or DPO."""
    return "DPO" if isinstance(objective, Dpo) else "SFT"


def objective_table(objective: Objective) -> str:
    """Every number of a training."""
    values = attrs.asdict(objective)
    lora = values.pop("lora")
    rows = [(name, "as the batch" if value is None else f"{value}") for name, value in values.items()]
    adapter = ", ".join(f"{name} {value}" for name, value in lora.items()) if lora else "none: full fine-tuning"
    return table(("setting", "value"), [("method", method_of(objective)), *rows, ("LoRA", adapter)])


def hub_name(name: str) -> str | None:
    """``name`` where it is OWNER/NAME of the hub, None where it is a folder here or no such name."""
    return name if _HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a card; empty where there is no card, or one without metadata. Raises InputError for bad YAML."""
    if not path.is_file():
        return {}
    found = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace"))
    try:
        values = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        raise InputError(
            f"{path}: its metadata is not YAML ({' '.join(str(error).split())}); correct or remove it"
        ) from error
    return values if isinstance(values, dict) else {}


def inherited_metadata(path: Path) -> dict[str, Any]:
    """What a model takes over from the card of the one that it is trained from: base model and licence, if named."""
    values = read_metadata(path)
    return {key: values[key] for key in INHERITED if values.get(key)}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of plain texts."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def plain(text: str) -> str:
    """A text on one line in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(text: str) -> str:
    """A name in code type, on one line."""
    return f"`{' '.join(text.replace('`', '').split())}`"


def fenced(text: str, language: str = "") -> str:
    """A code block that its content cannot close."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
