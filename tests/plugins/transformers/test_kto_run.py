"""A run of the tiny student that is trained with KTO, in the three pipelines, killed and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from interrupted_runs import Interrupting, artifacts_of

from tutelage.cli import cli
from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_rows, write_rows
from tutelage.files.trl_format import read_labelled, supervised_row
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import find_recipe, load_recipe
from tutelage.recipe.schema import Recipe

KTO = {"objective": "transformers/kto"}
pytestmark = pytest.mark.slow
PIPELINES = ("self-reward", "teacher-reward", "teacher-demonstration")


def small(**changes: Any) -> Recipe:
    values = {
        "iterations": 1,
        "data.eft.count": 48,
        "data.prompts.count": 16,
        "evaluation": None,
        "controls": {},
        "chunk": 32,
        "pipelines": {
            "self-reward": KTO,
            "teacher-reward": {**KTO, "pairs": {"threshold": 3.0}},
            "teacher-demonstration": KTO,
        },
        "objectives": {"transformers/kto": {"learning_rate": 1e-3, "batch_size": 8, "beta": 1.0}},
    }
    return load_recipe(find_recipe("embedded"), {**values, **changes})


def test_the_tiny_student_is_trained_with_kto_in_the_three_pipelines(tmp_path: Path) -> None:
    run(small(), tmp_path / "run")
    for name in PIPELINES:
        folder = tmp_path / f"run/seed-0/{name}/M2"
        assert (folder / "preferences.jsonl").exists() == (name != "teacher-reward")
        labelled = read_labelled(folder / "trained-on.jsonl")
        assert {one.desirable for one in labelled} == {True, False}
        rows = [row for _, row in read_rows(folder / "metrics.jsonl")]
        assert len(rows) == -(-len(labelled) // 8) and {"kl", "rewards/margins", "logps/chosen"} <= rows[-1].keys()
        assert (folder / "checkpoint/model.safetensors").is_file()
        assert "Trained by KTO from `M1`" in (folder / "checkpoint/README.md").read_text()


def test_a_file_of_labelled_answers_is_trained_on_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{**supervised_row("sort these words: b a", text), "label": text == "a b"} for text in ("a b", "b a") * 4]
    write_rows(tmp_path / "labelled.jsonl", rows)
    command = ["stage", "train", "labelled.jsonl", "--model", "transformers:tiny/student", "--out", "out"]
    settings = ["--objective", "transformers/kto", "--set", "objectives.transformers/kto.batch_size=4"]
    found = CliRunner().invoke(cli, [*command, *settings])
    assert found.exit_code == 0, found.output
    assert "transformers/kto: 2 logged steps -> out" in found.stderr
    other = CliRunner().invoke(cli, [*command[:-1], "other", *settings[:2], "--set", "dpo.beta=1"])
    assert "error: --set dpo.beta=1: does not apply, the objective is transformers/kto" in other.stderr
    unknown = CliRunner().invoke(cli, [*command[:-1], "other", "--objective", "transformers/kt"])
    assert "has no objective 'transformers/kt'; did you mean 'transformers/kto'?" in unknown.stderr


def test_a_run_with_kto_that_is_stopped_and_continued_has_the_same_artifacts(tmp_path: Path) -> None:
    run(small(), tmp_path / "whole")
    registry = Registry.discover()
    for after in (40, 150):
        registry.register(Interrupting(after), "breaking")
        with pytest.raises(StageError, match="the power is gone"):
            run(small(), directory=tmp_path / "again", registry=registry)
        registry.unregister("breaking")
    run(small(), directory=tmp_path / "again", registry=registry)
    assert artifacts_of(tmp_path / "again") == artifacts_of(tmp_path / "whole")
    assert (
        json.loads((tmp_path / "again/pipelines.json").read_text())["objectives"]["transformers/kto"]["class"] == "Kto"
    )
