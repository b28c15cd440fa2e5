"""A run with a pipeline or a measure of a plugin, read where the plugin is not installed any more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import critic_world
import echoing_world
import measure_world
import pytest
from recipes import numbers_recipe

from tutelage.errors import InputError, PluginError
from tutelage.execution.runner import run
from tutelage.planning.declared import declared, from_plain, to_plain
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values
from tutelage.recipe.schema import Recipe
from tutelage.report.page import write_report
from tutelage.results.training_data import read_training_data
from tutelage.runs.declarations import store_declarations, stored_declarations
from tutelage.runs.run import Run, RunModels
from tutelage.runs.status import run_status
from tutelage.runs.store import Store

NAMES = ("critic/revise", "critic/spin", "critic/two-judges")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    controls = {"critic/reversed": {"mirrors": "critic/revise"}}
    changes = {"pipelines": dict.fromkeys(NAMES), "controls": controls, "iterations": 1}
    return from_values(numbers_recipe(**changes))


@pytest.fixture(scope="module")
def once(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which tests must not change."""
    registry = Registry.empty()
    registry.register(echoing_world, "numbers")
    registry.register(critic_world, "critic")
    folder = tmp_path_factory.mktemp("declarations") / "run"
    run(recipe, directory=folder, registry=registry)
    return folder


@pytest.fixture
def finished(once: Path, numbers_registry: Registry, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    numbers_registry.register(critic_world, "critic")
    return Path(shutil.copytree(once, tmp_path / "run"))


def test_declarations_are_stored_and_read_back_with_the_names_of_their_functions(
    recipe: Recipe, numbers_registry: Registry
) -> None:
    numbers_registry.register(critic_world, "critic")
    known = declared(recipe, numbers_registry)
    stored = json.loads(json.dumps(to_plain(recipe, known)))
    read = from_plain(stored)
    assert read.pipelines["critic/two-judges"] == critic_world.TWO_JUDGES
    assert json.loads(json.dumps(to_plain(recipe, read))) == stored
    assert [step.name for step in read.of("critic/revise").steps] == [s.name for s in critic_world.REVISE.steps]


def test_a_run_is_read_by_status_data_and_report_without_the_plugin(finished: Path, tmp_path: Path) -> None:
    status = run_status(finished)
    assert {one.state for one in status.steps} == {"done"}
    models = RunModels.open(finished)
    assert models.last() == "M2/critic/revise"
    for name in (*NAMES, "critic/reversed"):
        data = read_training_data(models, f"M2/{name}")
        assert any(row.pairs for row in data), name
    [corrected] = {
        p.chosen == row.prompt.text[4:] for row in read_training_data(models, "M2/critic/revise") for p in row.pairs
    }
    assert corrected
    write_report(Run.open(finished).root, tmp_path / "page.html")
    assert "M2/critic/reversed" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_run_without_plugins_pipelines_stores_no_declarations(numbers_registry: Registry, tmp_path: Path) -> None:
    recipe = from_values(numbers_recipe(pipelines={"self-reward": None}, controls={}, iterations=1, evaluation=None))
    run(recipe, directory=tmp_path, registry=numbers_registry)
    assert not (tmp_path / "pipelines.json").exists()


def test_a_run_is_not_continued_without_the_plugin_and_the_error_names_it(
    finished: Path, recipe: Recipe, numbers_registry: Registry
) -> None:
    numbers_registry.unregister("critic")
    with pytest.raises((InputError, PluginError), match="no pipeline 'critic/revise': no plugin 'critic' is installed"):
        run(recipe, directory=finished, registry=numbers_registry)


def test_missing_and_damaged_declarations_are_named_with_their_file(finished: Path) -> None:
    path = finished / "pipelines.json"
    stored = json.loads(path.read_text())
    del stored["pipelines"]["critic/spin"]
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"pipelines\.json: has no declaration of critic/spin, which .*recipe\.yaml"):
        Run.open(finished)
    path.write_text('{"schema": 1, "pipelines": {"critic/spin": {"steps": [{"step": "Sampl"}]}}, "controls": {}}')
    with pytest.raises(InputError, match=r"pipelines\.json: not the declarations of pipelines"):
        Run.open(finished)
    path.unlink()
    with pytest.raises(InputError, match=r"pipelines\.json: has no declaration of critic/revise, critic/spin"):
        Run.open(finished)


def test_a_later_recipe_adds_its_declarations_and_the_folder_can_be_read_in_between(
    finished: Path, numbers_registry: Registry
) -> None:
    changes = {"pipelines": {"critic/spin": None}, "controls": {}, "iterations": 1, "evaluation": None}
    run(from_values(numbers_recipe(**changes)), directory=finished, registry=numbers_registry)
    assert set(json.loads((finished / "pipelines.json").read_text())["pipelines"]) == set(NAMES)
    assert [model.id for model in Run.open(finished).plan.models] == ["M0", "M1", "M2/critic/spin"]
    assert not (finished / "seed-0/critic/revise").exists()


def test_missing_and_damaged_descriptions_of_measures_are_named_with_their_file(
    numbers_registry: Registry, tmp_path: Path
) -> None:
    numbers_registry.register(measure_world, "mine")
    values = numbers_recipe(pipelines={"self-reward": None}, controls={}, iterations=1)
    values["evaluation"]["measures"] = {"right": {"measure": "mine/right"}}
    recipe = from_values(values)
    store = Store(tmp_path)
    store_declarations(store, recipe, declared(recipe, numbers_registry))
    info = measure_world.MEASURES["right"].info("mine/right")
    assert stored_declarations(store, recipe).measures == {"mine/right": info}
    path = tmp_path / "measures.json"
    path.write_text('{"schema": 1, "measures": {"mine/right": {"over": "answers"}}}')
    with pytest.raises(InputError, match=r"measures\.json: not the descriptions of measures"):
        stored_declarations(store, recipe)
    path.unlink()
    with pytest.raises(InputError, match=r"measures\.json: has no description of mine/right, which .*recipe\.yaml"):
        stored_declarations(store, recipe)


def test_a_later_recipe_keeps_the_descriptions_of_the_measures_before(
    numbers_registry: Registry, tmp_path: Path
) -> None:
    numbers_registry.register(measure_world, "mine")
    store = Store(tmp_path)
    for name in ("right", "digits"):
        values = numbers_recipe()
        values["evaluation"]["measures"] = {name: {"measure": f"mine/{name}"}}
        recipe = from_values(values)
        store_declarations(store, recipe, declared(recipe, numbers_registry))
    assert set(json.loads((tmp_path / "measures.json").read_text())["measures"]) == {"mine/right", "mine/digits"}
