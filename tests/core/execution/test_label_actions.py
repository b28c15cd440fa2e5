"""Runs whose models are trained on labelled answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import approving_world
import echoing_world
import pytest
from interrupted_runs import Interrupting, artifacts_of
from recipes import numbers_recipe

from tutelage.cli.data_show import _lines
from tutelage.errors import InputError, StageError
from tutelage.execution.runner import run
from tutelage.exporting.card import Published, whole_card
from tutelage.files.trl_format import read_labelled, read_preferences
from tutelage.measure import Measure, MeasuredPrompt
from tutelage.plugins.functions import plugin
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.report.page import write_report
from tutelage.results.training_data import preferences_of, read_training_data
from tutelage.runs.run import Run, RunModels
from tutelage.runs.status import run_status

Make = Callable[..., Recipe]
APPROVE = {"objective": "approving/approve"}
BY_THRESHOLD = {**APPROVE, "pairs": {"threshold": 3.0}}
PIPELINES = {"self-reward": APPROVE, "teacher-reward": BY_THRESHOLD, "approving/doubtful": None}
MODELS = {
    "student": {"plugin": "learner", "model": "numbers/novice"},
    "teacher": {"plugin": "numbers"},
    "evaluator": {"plugin": "numbers"},
}


EVALUATION = {**numbers_recipe()["evaluation"], "sampled": 0, "agreement_prompts": 0}
VALUES: dict[str, Any] = {
    "models": MODELS,
    "evaluation": {**EVALUATION, "prompts": {"source": "numbers/held-out", "count": 5}},
    "pipelines": PIPELINES,
    "controls": {"random-pairs": {"mirrors": "self-reward"}},
    "iterations": 1,
}


def registry_of() -> Registry:
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(approving_world.Offering(), "approving")
    registry.register(approving_world.Learner(), "learner")
    return registry


@pytest.fixture
def registry() -> Registry:
    return registry_of()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which the tests only read."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(from_values(numbers_recipe(**VALUES)), directory=folder, registry=registry_of())
    return folder


def counts(folder: Path, artifact: str) -> dict[str, int]:
    return dict(Run.open(folder).store.finished_steps()[artifact].counts)


def test_the_labels_follow_from_the_pairs_or_from_the_scores(finished: Path) -> None:
    folder = finished / "seed-0/self-reward/M2"
    pairs, labelled = read_preferences(folder / "preferences.jsonl"), read_labelled(folder / "trained-on.jsonl")
    assert [one.answer for one in labelled if one.desirable] == [pair.chosen for pair in pairs]
    assert [one.answer for one in labelled if not one.desirable] == [pair.rejected for pair in pairs]
    by_score = read_labelled(finished / "seed-0/teacher-reward/M2/trained-on.jsonl")
    assert {one.desirable for one in by_score} == {True, False}
    assert all(one.desirable == (one.score >= 3) for one in by_score if one.score is not None)
    found = counts(finished, "seed-0/teacher-reward/M2/trained-on.jsonl")
    assert found["labelled answers"] == len(by_score) == found["desirable"] + found["undesirable"]
    doubts = counts(finished, "seed-0/approving/doubtful/M2/doubts.jsonl")
    assert doubts["labelled answers"] == 160 == doubts["desirable"] + doubts["undesirable"]


def test_the_run_is_read_without_the_plugin_of_the_objective(finished: Path) -> None:
    stored = json.loads((finished / "pipelines.json").read_text())
    assert list(stored["objectives"]) == ["approving/approve"]
    assert {one.state for one in run_status(finished).steps} == {"done"}
    models = RunModels.open(finished)
    [pairs, scored, doubts] = (read_training_data(models, f"M2/{name}") for name in PIPELINES)
    assert any(row.pairs for row in pairs)
    assert {label for row in scored for label in row.labels.values()} == {True, False}
    assert sum(len(row.labels) for row in doubts) == 160
    shown = [line[0] for line in _lines(next(row for row in scored if len(set(row.labels.values())) == 2))]
    assert {"+", "-"} <= set(shown)
    with pytest.raises(InputError, match="M2/teacher-reward was trained on labelled answers, not on pairs"):
        preferences_of(models, "M2/teacher-reward")


@pytest.mark.slow  # drawing takes seconds
def test_the_page_of_the_run_has_the_loss_of_the_objective(finished: Path, tmp_path: Path) -> None:
    write_report(finished, tmp_path / "page.html")
    assert "Approve loss" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_card_names_the_objective_and_what_it_was_trained_on(finished: Path) -> None:
    models = RunModels.open(finished)
    text = whole_card(models, models.planned("M2/teacher-reward"), Published("me/approved"))
    rows = len(read_labelled(finished / "seed-0/teacher-reward/M2/trained-on.jsonl"))
    assert f"| M2/teacher-reward | M1 | Approve, reference M1 | {rows} labelled answers |" in text


def test_the_health_of_the_training_is_in_nats(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    health = {one["model"]: one["health"] for one in summary["training"]}
    assert health["M2/teacher-reward"]["chosen_change"]["last"] == pytest.approx(0.5)  # 0.1 / beta 0.2
    assert health["M2/approving/doubtful"]["chosen_change"]["last"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "after", [500, pytest.param(100, marks=pytest.mark.slow), pytest.param(750, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_and_continued_has_the_same_artifacts(
    registry: Registry, finished: Path, tmp_path: Path, after: int
) -> None:
    recipe = from_values(numbers_recipe(**VALUES))
    registry.register(Interrupting(after), "breaking")
    with pytest.raises(StageError, match="the power is gone"):
        run(recipe, directory=tmp_path / "again", registry=registry)
    registry.unregister("breaking")
    run(recipe, directory=tmp_path / "again", registry=registry)
    assert artifacts_of(tmp_path / "again") == artifacts_of(finished)


def test_another_threshold_makes_the_labels_again_and_keeps_the_scores(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    def at(threshold: float) -> Recipe:
        own: dict[str, Any] = {**APPROVE, "pairs": {"threshold": threshold}}
        return make_recipe(models=MODELS, pipelines={"self-reward": own}, controls={}, iterations=1, evaluation=None)

    run(at(3.0), directory=tmp_path, registry=registry)
    before = artifacts_of(tmp_path)
    run(at(5.0), directory=tmp_path, registry=registry)
    after = artifacts_of(tmp_path)
    folder = "seed-0/self-reward/M2"
    assert before[f"{folder}/judgements.jsonl"] == after[f"{folder}/judgements.jsonl"]
    assert before[f"{folder}/trained-on.jsonl"] != after[f"{folder}/trained-on.jsonl"]


def test_answers_of_one_label_alone_are_a_warning_with_the_key_to_change(
    make_recipe: Make, registry: Registry, tmp_path: Path
) -> None:
    own: dict[str, Any] = {**APPROVE, "pairs": {"threshold": 0.5}}
    recipe = make_recipe(
        models=MODELS, pipelines={"self-reward": own}, controls={}, iterations=1, evaluation=VALUES["evaluation"]
    )
    summary = run(recipe, directory=tmp_path, registry=registry)
    assert summary is not None
    rows = len(read_labelled(tmp_path / "seed-0/self-reward/M2/trained-on.jsonl"))
    assert (
        f"M2/self-reward, seed 0: all {rows} answers that it is trained on are desirable: set another pairs.threshold "
        "(now 0.5)"
    ) in summary.warnings


def test_a_measure_of_trainings_gets_the_labelled_answers_of_each_prompt(tmp_path: Path, registry: Registry) -> None:
    def desirable(items: Iterable[MeasuredPrompt]) -> Iterator[float | None]:
        for item in items:  # M1 was trained on examples
            yield mean(one.desirable for one in item.labelled) if item.labelled else None

    measure = Measure(function=desirable, help="share of desirable answers", over="training", lowest=0, highest=1)
    registry.register(plugin(measures={"desirable": measure}), "mine")
    values = {**VALUES, "pipelines": {"teacher-reward": BY_THRESHOLD}, "controls": {}}
    values["evaluation"] = {**VALUES["evaluation"], "measures": {"desirable": {"measure": "mine/desirable"}}}
    summary = run(from_values(numbers_recipe(**values)), directory=tmp_path / "run", registry=registry)
    assert summary is not None
    rows = read_labelled(tmp_path / "run/seed-0/teacher-reward/M2/trained-on.jsonl")
    shares = [
        mean(one.desirable for one in of_prompt)
        for _, of_prompt in groupby(sorted(rows, key=lambda one: one.prompt_id), key=lambda one: one.prompt_id)
    ]
    figure = summary.model("M2/teacher-reward").metrics["desirable"]
    assert figure.value == pytest.approx(mean(shares))
