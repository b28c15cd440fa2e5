"""The files that a recipe needs are found by its models and sets, and a check names those that are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prepared_world import NAME, PreparedWorld
from recipes import numbers_recipe
from wheels import use_only

from tutelage.errors import InputError
from tutelage.planning.checks import checked_plan
from tutelage.planning.preparations import data_files, preparations
from tutelage.planning.sources import sets_of
from tutelage.plugins.preparation import prepare
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


@pytest.fixture
def world(tmp_path: Path, numbers_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> PreparedWorld:
    use_only(tmp_path / "index", monkeypatch)
    world = PreparedWorld(tmp_path / "index")
    numbers_registry.register(world, NAME)
    return world


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    models = {role: {"plugin": "numbers"} for role in ("teacher", "evaluator")}
    data = {"ift": {"source": "numbers/ift", "count": 8}, "prompts": {"source": "prepared/train", "count": 20}}
    student = {"plugin": "numbers", "model": "prepared/novice"}
    return make_recipe(models={"student": student, **models}, data=data, iterations=1)


def test_each_prepared_model_and_set_of_a_recipe_is_found_once(
    recipe: Recipe, world: PreparedWorld, numbers_registry: Registry
) -> None:
    found = preparations(recipe, numbers_registry)
    assert found == {"prepared/novice": world.weights, "prepared/train": world.prompts}


def test_the_files_that_only_a_variant_needs_are_found(
    make_recipe: Callable[..., Recipe], world: PreparedWorld, numbers_registry: Registry
) -> None:
    recipe = make_recipe(
        variants={"novice": {"models.student.model": "prepared/novice"}, "mine": {"data.ift": {"source": "mine.jsonl"}}}
    )
    assert preparations(recipe, numbers_registry) == {"prepared/novice": world.weights}
    assert data_files(recipe, sets_of(numbers_registry)) == ["mine.jsonl"]


def test_a_pipeline_that_does_not_exist_does_not_hide_the_files_of_the_others(
    make_recipe: Callable[..., Recipe], world: PreparedWorld, numbers_registry: Registry
) -> None:
    models = {**numbers_recipe()["models"], "student": {"plugin": "numbers", "model": "prepared/novice"}}
    recipe = make_recipe(models=models, pipelines={"self-reward": {}, "self-rewards": {}}, controls={})
    assert preparations(recipe, numbers_registry) == {"prepared/novice": world.weights}


def test_a_recipe_without_prepared_files_needs_none(
    make_recipe: Callable[..., Recipe], numbers_registry: Registry
) -> None:
    assert preparations(make_recipe(), numbers_registry) == {}


def test_the_check_of_a_recipe_names_every_missing_file_and_the_command(
    recipe: Recipe, world: PreparedWorld, numbers_registry: Registry
) -> None:
    with pytest.raises(InputError) as raised:
        checked_plan(recipe, numbers_registry)
    lines = str(raised.value).splitlines()
    missing = "its files are not on this machine; get them with `tutelage recipes prepare RECIPE`"
    assert any(line.startswith(f"models.student.model: prepared/novice: {missing}") for line in lines)
    assert any(line.startswith(f"data.prompts: prepared/train: {missing}") for line in lines)
    for one in (world.weights, world.prompts):
        prepare(one, lambda name, terms: True, print)
    assert checked_plan(recipe, numbers_registry).steps


def test_a_recipe_whose_plugin_is_missing_is_refused_before_anything_is_fetched(
    make_recipe: Callable[..., Recipe], numbers_registry: Registry
) -> None:
    models = {"student": {"plugin": "numbers"}, "teacher": {"plugin": "nowhere"}, "evaluator": {"plugin": "numbers"}}
    with pytest.raises(InputError, match=r"models\.teacher\.plugin: no plugin 'nowhere' is installed"):
        preparations(make_recipe(models=models), numbers_registry)
