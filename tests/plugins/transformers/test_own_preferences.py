"""DPO on the user's preference pairs with the tiny student: from M1, from the base model, and by ``stage train``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from known import known

from tutelage.cli import cli
from tutelage.execution.runner import run
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import preference_row
from tutelage.recipe.loading import find_recipe, load_recipe
from tutelage.runs.store import Store
from tutelage_tiny.sets import preferences


def test_the_built_in_recipe_improves_m1_by_dpo_on_given_pairs(tmp_path: Path) -> None:
    summary = known(run("own-preferences", tmp_path / "run"))
    score = {model.id: known(model.metrics["gold_score"].value) for model in summary.models}
    assert list(score) == ["M0", "M1", "M2/own-preferences"]
    assert score["M0"] + 1 < score["M1"] < score["M2/own-preferences"]
    assert not summary.warnings


def test_the_base_model_is_trained_on_a_file_of_pairs(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", map(preference_row, preferences(32, 0)))
    changes = {
        "data.ift": None,
        "data.preferences": {"source": str(tmp_path / "pairs.jsonl"), "count": 32},
        "evaluation": None,
    }
    run(load_recipe(find_recipe("own-preferences"), changes), tmp_path / "run")
    store = Store(tmp_path / "run")
    assert store.finished_steps()["seed-0/own-preferences/M2/checkpoint"].counts == {"steps": 4}
    assert (tmp_path / "run/seed-0/own-preferences/M2/checkpoint/model.safetensors").is_file()
    assert not (tmp_path / "run/seed-0/M1").exists()


def test_a_pair_longer_than_the_context_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = map(preference_row, preferences(4, 0))
    long = {**first, "rejected": [{"role": "assistant", "content": "cat " * 2000}]}
    write_rows(tmp_path / "pairs.jsonl", [*others, long])
    settings = ("--set", "data.preferences={source: pairs.jsonl, count: 4}")
    for command in ("plan", "run"):
        result = CliRunner().invoke(cli, [command, "own-preferences", *settings])
        assert result.exit_code == 2
        assert (
            "error: data.preferences (pairs.jsonl): 1 too long to train on: the longest has 2,014 tokens"
            in result.stderr
        )
        assert not (tmp_path / "runs").exists()


def test_imported_instructions_and_pairs_train_and_errors_name_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result.stderr

    pairs = preferences(8, 0)
    write_rows(tmp_path / "rows.jsonl", [{"prompt": p.prompt, "answer": p.chosen} for p in pairs])
    write_rows(tmp_path / "ranked.jsonl", map(preference_row, pairs))
    call("data", "import", "ift", "rows.jsonl", "ift.jsonl")
    call("data", "import", "preferences", "ranked.jsonl", "pairs.jsonl", "--id", "prompt_id")
    start, train = ("--model", "transformers:tiny/student"), ("stage", "train")
    call(*train, "ift.jsonl", *start, "--objective", "sft", "--set", "sft.epochs=1", "--out", "m1")
    call(*train, "pairs.jsonl", "--model", "transformers:m1", "--objective", "dpo", "--out", "m2")
    assert (tmp_path / "m2/model.safetensors").is_file()
    with (tmp_path / "ift.jsonl").open("a") as file:
        file.write("\n\n" + json.dumps({"prompt": "sort these words", "answer": "cat " * 2000}) + "\n")
    result = CliRunner().invoke(cli, [*train, "ift.jsonl", *start, "--objective", "sft", "--out", "m3"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ift.jsonl, line 11: prompt and completion are ")
    assert sorted(path.name for path in tmp_path.glob("*m3*")) == []
