"""``tutelage ledger``, called from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner, Result
from ledger_entry import ENTRY

from tutelage.cli import cli
from tutelage.services.ledger import Ledger


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("TUTELAGE_LEDGER", str(path))
    ledger = Ledger(path)
    ledger.store(ENTRY)
    ledger.store(evolve(ENTRY, key="k2", run="runs/b", cost=None))
    ledger.close()
    return path


def tutelage(*arguments: str, **options: str) -> Result:
    return CliRunner().invoke(cli, arguments, **options)  # type: ignore[arg-type]


def test_the_table_shows_spend_by_run_stage_and_model_and_says_what_is_unknown() -> None:
    lines = tutelage("ledger").output.splitlines()
    assert lines[2].split() == ["runs/a", "judge", "gpt-4-turbo", "1", "1,000", "10", "0.2500"]
    assert lines[3].split() == ["runs/b", "judge", "gpt-4-turbo", "1", "1,000", "10", "0.0000", "1"]
    assert lines[4].split() == ["total", "2", "2,000", "20", "0.2500", "1"]


def test_spend_as_json_by_another_group() -> None:
    assert json.loads(tutelage("ledger", "--by", "model", "--json").output) == [
        {
            "model": "gpt-4-turbo",
            "answers": 2,
            "input_tokens": 2000,
            "output_tokens": 20,
            "cost": 0.25,
            "unknown": 1,
        }
    ]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "nothing", "end of the input"])
def test_prune_asks_first(path: Path, answer: str) -> None:
    refused = tutelage("ledger", "prune", "--run", "runs/a", input=answer)
    assert (refused.exit_code, refused.output.splitlines()[-1]) == (130, "nothing was deleted")
    assert Ledger(path).find("k1") is not None
    assert tutelage("ledger", "prune", "--run", "runs/a", "--yes").exit_code == 0
    assert (Ledger(path).find("k1"), Ledger(path).find("k2") is None) == (None, False)


def test_prune_without_a_condition_is_an_error() -> None:
    assert tutelage("ledger", "prune", "--yes").exit_code == 2


def test_export_writes_every_answer_as_a_json_line(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in tutelage("ledger", "export").output.splitlines()]
    assert [(row["key"], row["text"]) for row in rows] == [("k1", "score: 4"), ("k2", "score: 4")]
    target = tmp_path / "answers.jsonl"
    assert tutelage("ledger", "export", str(target), "--run", "runs/b").exit_code == 0
    assert [json.loads(line)["key"] for line in target.read_text().splitlines()] == ["k2"]
    again = tutelage("ledger", "export", str(target))
    assert again.exit_code == 2
    assert again.output == f"error: {target}: already exists; choose another file\n"
