"""A sweep: the variants of a recipe share every artifact that they do not change, and are compared at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from interrupted_runs import artifacts_of

from tutelage.errors import InputError, Interrupted
from tutelage.execution.reporter import Silent
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.results.summary import read_summary
from tutelage.runs.status import run_status
from tutelage.runs.store import Store

Make = Callable[..., Recipe]
GRID = {"dpo.beta": [0.1, 0.05], "pairs.margin": [0.0, 1.0]}
SMALL: dict[str, Any] = {"iterations": 1, "pipelines": {"teacher-reward": None, "self-reward": None}, "controls": {}}
NAMES = ["dpo.beta=0.1,pairs.margin=1.0", "dpo.beta=0.05,pairs.margin=0.0", "dpo.beta=0.05,pairs.margin=1.0"]


@pytest.fixture
def sweep(make_recipe: Make) -> Recipe:
    return make_recipe(**SMALL, grid=GRID)


def done_in(folder: Path) -> list[str]:
    """The artifacts that a run made itself, and did not take from elsewhere."""
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return [row["output"] for row in rows if row["seconds"] > 0]


def test_the_variants_share_what_they_do_not_change_and_each_equals_a_run_of_its_own(
    tmp_path: Path, sweep: Recipe, make_recipe: Make, numbers_registry: Registry
) -> None:
    run(sweep, tmp_path / "sweep", numbers_registry)
    variants = tmp_path / "sweep/variants"
    assert sorted(path.name for path in variants.iterdir()) == sorted(NAMES)
    for name in NAMES:
        beta, margin = (float(part.partition("=")[2]) for part in name.split(","))
        own = make_recipe(**SMALL, dpo={"beta": beta}, pairs={"margin": margin})
        run(own, tmp_path / name, numbers_registry)
        assert artifacts_of(variants / name) == artifacts_of(tmp_path / name)
    made = [output for folder in (tmp_path / "sweep", *variants.iterdir()) for output in done_in(folder)]
    for shared in ("M1/checkpoint", "M1/samples/candidates.jsonl", "self-reward/M2/judgements.jsonl"):
        assert made.count(f"seed-0/{shared}") == 1
    assert made.count("seed-0/self-reward/M2/preferences.jsonl") == len(set(GRID["pairs.margin"]))
    assert made.count("seed-0/self-reward/M2/checkpoint") == 4
    folders = [tmp_path / "sweep", *variants.iterdir()]
    assert len({folder.joinpath("seed-0/M1/checkpoint/weights.json").stat().st_ino for folder in folders}) == 1


def test_the_summary_ranks_the_variants_with_paired_differences_and_adjusted_p_values(
    tmp_path: Path, sweep: Recipe, numbers_registry: Registry
) -> None:
    summary = run(sweep, tmp_path / "sweep", numbers_registry)
    assert summary is not None
    assert summary == read_summary(tmp_path / "sweep/summary.json")
    assert len(summary.variants) == 4 * 2
    scores = [result.metrics["gold_score"].value for result in summary.variants]
    assert scores == sorted(scores, key=lambda value: -(value or 0.0))
    of_base = [result for result in summary.variants if result.variant == "base"]
    assert [result.difference for result in of_base] == [None, None]
    of_the_recipe = {result.model: result.metrics["gold_score"] for result in of_base}
    for result in summary.variants:
        if result.variant != "base":
            own = run_status(tmp_path / "sweep/variants" / result.variant)
            assert own.count("done") == len(own.steps)
            assert result.difference is not None
            difference = result.difference
            assert difference.value is not None
            if (
                result.metrics["gold_score"] == of_the_recipe[result.model]
            ):  # the echoing world learns nothing from beta
                assert (difference.value, difference.low, result.p_value_adjusted) == (0.0, None, None)
                assert difference.no_interval == "it is the same on all prompts"
            else:
                assert result.p_value_adjusted is not None
                assert difference.low is not None
                assert difference.low <= difference.value
    table = (tmp_path / "sweep/evaluation/variants.csv").read_text().splitlines()
    assert len(table) == 1 + len(summary.variants)
    assert summary.variants[0].name == f"{summary.variants[0].model}@{summary.variants[0].variant}"


def test_a_sweep_that_is_stopped_continues_and_a_finished_one_does_nothing(
    tmp_path: Path, sweep: Recipe, numbers_registry: Registry
) -> None:
    run(sweep, tmp_path / "whole", numbers_registry)
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run(sweep, tmp_path / "stopped", numbers_registry, cancelled=lambda: next(asked) > 450)
    assert (tmp_path / "stopped/variants").exists()
    assert not (tmp_path / "stopped/summary.json").exists()
    run(sweep, tmp_path / "stopped", numbers_registry)
    assert artifacts_of(tmp_path / "stopped") == artifacts_of(tmp_path / "whole")
    before = artifacts_of(tmp_path / "whole")
    run(sweep, tmp_path / "whole", numbers_registry, approve=lambda found: not found.remaining)
    assert artifacts_of(tmp_path / "whole") == before


def test_a_variant_that_is_added_makes_only_its_own_artifacts_and_the_summary(
    tmp_path: Path, sweep: Recipe, numbers_registry: Registry
) -> None:
    run(evolve(sweep, grid={}), tmp_path / "run", numbers_registry)
    before = done_in(tmp_path / "run")
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    run(evolve(sweep, grid={"dpo.beta": (0.1, 0.05)}), tmp_path / "run", numbers_registry, Noting())
    assert done_in(tmp_path / "run")[len(before) :] == ["summary.json"]
    assert "variant 1 of 1: dpo.beta=0.05" in notes
    assert "seed-0/M1/checkpoint" not in done_in(tmp_path / "run/variants/dpo.beta=0.05")


def test_the_problems_of_all_variants_are_one_list_before_anything_is_written(
    tmp_path: Path, make_recipe: Make, numbers_registry: Registry
) -> None:
    variants = {
        "rule": {"pairs.rule": "best-wrst"},
        "set": {"evaluation.prompts.source": "numbers/nothing"},
        "fine": {"dpo.beta": 0.3},
    }
    with pytest.raises(InputError) as raised:
        run(make_recipe(**SMALL, variants=variants), tmp_path / "run", numbers_registry)
    lines = str(raised.value).splitlines()
    assert any(line.startswith("variant rule: ") and "did you mean 'best-worst'" in line for line in lines)
    assert any(line.startswith("variant set: evaluation.prompts: ") for line in lines)
    assert not any("fine" in line for line in lines)
    assert not (tmp_path / "run").exists()


def test_variants_with_other_seeds_students_and_judges_share_the_rest(
    tmp_path: Path, make_recipe: Make, numbers_registry: Registry
) -> None:
    variants = {"seeds": {"seeds": [0, 1]}, "judge": {"judging.temperature": 0.5}}
    run(make_recipe(**SMALL, variants=variants), tmp_path / "run", numbers_registry)
    seeds, judge = (done_in(tmp_path / "run/variants" / name) for name in variants)
    assert not [output for output in seeds if output.startswith("seed-0/")]
    assert "seed-1/M1/checkpoint" in seeds
    assert "seed-0/M1/checkpoint" not in judge
    assert "seed-0/teacher-reward/M2/judgements.jsonl" in judge


def test_another_process_on_a_variant_is_reported(tmp_path: Path, sweep: Recipe, numbers_registry: Registry) -> None:
    with Store(tmp_path / "sweep").lock(), pytest.raises(Exception, match="is working on this run"):
        run(sweep, tmp_path / "sweep", numbers_registry)
