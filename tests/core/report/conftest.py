"""Finished runs for the tests of the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[2] / "fixtures"
GREEDY = "seed-0/M1/samples/held-out-greedy.jsonl"
Rewrite = Callable[[str, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A copy of a finished run with the models M0, M1, M2/self-reward and M2/random-pairs, which a test may change."""
    return Path(shutil.copytree(FIXTURES / "golden-run", tmp_path / "golden"))


@pytest.fixture
def rewrite(finished: Path) -> Rewrite:
    """Change every row of a JSON-lines artifact of the run."""

    def change(artifact: str, edit: Callable[[dict[str, Any]], None]) -> None:
        path = finished / artifact
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            edit(row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return change
