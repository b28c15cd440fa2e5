"""A run of the tiny student that is trained with KTO, in the three pipelines, killed and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from interrupted_runs import Interrupting, artifacts_of

from tutelage.errors import StageError
from tutelage.execution.runner import run
from tutelage.files.jsonl import read_rows
from tutelage.files.trl_format import read_labelled
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
