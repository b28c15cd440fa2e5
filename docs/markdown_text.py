"""Markdown from tables and docstrings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(escaped(cell) for cell in line)} |" for line in lines)


def escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")


def rst_to_markdown(text: str) -> str:
    """Convert double backticks to single ones, and an indented block after ``::`` to a fenced block."""
    before, colons, rest = text.partition("::\n\n")
    if not colons:
        return text.replace("``", "`")
    lines = rest.split("\n")
    end = next((number for number, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    code = textwrap.dedent("\n".join(lines[:end])).strip("\n")
    prose = [part.replace("``", "`") for part in (before, "\n".join(lines[end:]))]
    introduction = f"{prose[0]}:" if prose[0] == prose[0].rstrip() else prose[0].rstrip()
    return f"{introduction}\n\n```python\n{code}\n```\n\n{prose[1]}".rstrip()
