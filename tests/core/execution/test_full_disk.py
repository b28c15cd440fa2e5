"""A disk that becomes full at any write is one error, and the continued run ends with the same artifacts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from full_disk import PROBLEM, FullDisk
from interrupted_runs import artifacts_of

from tutelage.errors import InputError, StageError
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate
from tutelage.runs.store import Store

SMALL: dict[str, Any] = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1, "evaluation": None}
DRAWS = 12
"""``python -m tests.prove full-disk`` fails 40 writes of an embedded run."""


def test_a_run_whose_disk_is_full_at_any_write_continues_to_the_same_artifacts(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(**SMALL)
    counting = FullDisk(tmp_path / "undisturbed")
    with counting.installed():
        run(recipe, tmp_path / "undisturbed", numbers_registry)
    expected = artifacts_of(tmp_path / "undisturbed")
    assert counting.writes > 50
    draw = random.Random(12)
    moments = {0, 1, counting.writes - 1, *(draw.randrange(counting.writes) for _ in range(DRAWS))}
    for after in sorted(moments):
        folder = tmp_path / f"full-{after}"
        disk = FullDisk(folder, after)
        with disk.installed(), pytest.raises((StageError, InputError)) as raised:
            run(recipe, folder, numbers_registry)
        assert PROBLEM in str(raised.value), after
        assert isinstance(raised.value, StageError) or not (folder / "recipe.yaml").exists(), after
        run(recipe, folder, numbers_registry)
        assert artifacts_of(folder) == expected, after
        assert not list(folder.rglob("*.tmp")), after


def test_an_error_while_an_item_is_stored_leaves_a_journal_that_can_be_read(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    first, second = Candidate("p", 0, "one"), Candidate("p", 1, "two" * 1000)
    journal.append([first])
    with FullDisk(tmp_path, 0).installed(), pytest.raises(StageError, match=PROBLEM):
        Store(tmp_path).journal("candidates.jsonl", Candidate).append([second])
    assert journal.path.read_bytes().endswith(b"\n")
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    journal.append([second])
    assert list(journal) == [first, second]


def test_a_damaged_line_of_a_journal_is_named(tmp_path: Path) -> None:
    journal = Store(tmp_path).journal("candidates.jsonl", Candidate)
    journal.append([Candidate("p", 0, "one")])
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\n")
    with pytest.raises(StageError, match=r"\.candidates\.jsonl\.journal, line 2: not JSON .*delete this line"):
        list(Store(tmp_path).journal("candidates.jsonl", Candidate))
