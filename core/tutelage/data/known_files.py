"""The data files that the built-in recipes name, and the commands that make them."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from tutelage.errors import InputError


@frozen
class KnownFiles:
    """Data files that one command makes."""

    paths: tuple[str, ...]
    content: str
    command: str
    """Arguments of ``tutelage`` that make the files from the hub."""
    from_export: str
    """Arguments of ``tutelage`` that make the files from a local file, written as FILE."""


KNOWN_FILES = (
    KnownFiles(
        ("data/oasst/ift.jsonl", "data/oasst/eft.jsonl"),
        "IFT and EFT examples, from OpenAssistant's message trees (OpenAssistant/oasst1 on the hub)",
        "data oasst data/oasst",
        "data oasst data/oasst --source FILE",
    ),
    KnownFiles(
        ("data/alpaca_eval.jsonl",),
        "the 805 instructions of AlpacaEval (tatsu-lab/alpaca_eval on the hub)",
        "data import prompts hub:tatsu-lab/alpaca_eval/alpaca_eval.json data/alpaca_eval.jsonl --prompt instruction",
        "data import prompts FILE data/alpaca_eval.jsonl --prompt instruction",
    ),
)


def known_files(source: str) -> KnownFiles | None:
    """Return the known files that a source of a recipe belongs to; None if the source is another file or a set."""
    return next((files for files in KNOWN_FILES if source in files.paths), None)


def check_made(source: str) -> None:
    """Raise ``InputError`` if the source is a known file that does not exist. The message says how it is made."""
    files = known_files(source)
    if files is not None and not Path(source).exists():
        raise InputError(f"{source}: does not exist; `tutelage recipes prepare RECIPE` makes it ({files.content})")
