"""The contents of the page come from the artifacts of a finished run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.errors import InputError
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.report.contents import read_contents


def test_the_contents_name_the_run_its_data_its_cost_and_its_versions(finished: Path) -> None:
    contents = read_contents(finished)
    assert contents.name == "golden" and contents.recipe_name == "numbers"
    rows = {row.model: row for row in contents.data}
    assert rows["M1"].result == "8 ift, 8 eft"
    assert rows["M2/self-reward"].prompts == "6 prompts"
    assert rows["M2/self-reward"].scores == "48 judgements (3 unparsed)"
    assert rows["M2/self-reward"].result == "2 pairs (2 same text, 2 tied)"
    steps = [json.loads(line) for line in (finished / "steps.jsonl").read_text().splitlines()]
    assert sum(one.steps for one in contents.costs) == len({step["output"] for step in steps})
    assert sum(one.seconds for one in contents.costs) == pytest.approx(sum(step["seconds"] for step in steps))
    assert contents.versions == json.loads((finished / "run.json").read_text())
    assert "M1" in contents.calibration and contents.answers is not None


def test_curves_are_in_nats_and_leave_out_values_that_are_not_finite(finished: Path) -> None:
    metrics = finished / "seed-0/self-reward/M2/metrics.jsonl"
    lines = ['{"step": 1, "loss": 0.7, "rewards/chosen": 0.0}', '{"step": 2, "loss": null, "rewards/chosen": 0.5}']
    metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")
    beta = 0.25
    recipe = finished / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    start = text.index("  beta: ")
    recipe.write_text(text[:start] + f"  beta: {beta}" + text[text.index("\n", start) :], encoding="utf-8")
    found = {one.quantity: one.points for one in read_contents(finished).curves if one.model == "M2/self-reward"}
    assert found == {"DPO loss": ((1, 0.7),), "chosen": ((1, 0.0), (2, 0.5 / beta))}


def test_a_run_that_is_not_finished_is_an_error_that_names_the_next_command(finished: Path) -> None:
    (finished / "summary.json").unlink()
    with pytest.raises(
        InputError, match=r"not finished \(summary.json does not exist\); `tutelage run --run .*golden`"
    ):
        read_contents(finished)


def test_a_run_without_an_evaluation_has_its_training_and_its_data(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(pipelines={"teacher-reward": None}, controls={}, iterations=1, evaluation=None)
    run(recipe, tmp_path / "run", numbers_registry)
    contents = read_contents(tmp_path / "run")
    assert contents.sentences == ("The models were not evaluated: the recipe has no evaluation.",)
    assert contents.summary is None and contents.answers is None and contents.data
