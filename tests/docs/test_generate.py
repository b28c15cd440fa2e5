"""The generated reference pages and the generated parts of the other pages are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def generate(*options: str, program: str = "generate") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"docs/{program}.py", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_committed_reference_pages_are_up_to_date() -> None:
    found = generate("--check")
    assert found.returncode == 0, found.stderr


def test_the_figures_on_the_pages_are_those_that_were_measured() -> None:
    found = generate("--check", program="quoted")
    assert found.returncode == 0, found.stderr


def test_the_pages_hold_every_command_hook_recipe_key_and_setting() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.md")}
    for text in ("## tutelage stage train", "--no-plugin NAME", "-h, --help", "130  interrupted"):
        assert text in pages["cli"]
    for text in ("## train_step", "examples: Path,", "## release"):
        assert text in pages["hooks"]
    for text in ("| `generation.n` | whole number | 4 |", "| `dpo.lora.r` |", "`demonstration-vs-own`", "`pairwise`"):
        assert text in pages["recipe"]
    for text in ("## transformers", "## tiny", "| `gradient_checkpointing` | true or false or nothing |"):
        assert text in pages["plugins"]
    assert "::" not in pages["hooks"]
