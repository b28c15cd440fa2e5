"""``models.student.generator``: what it makes of the plan, the checks and the fingerprints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from recipes import numbers_recipe

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.planning.checks import checked_plan
from tutelage.planning.made_from import MadeFrom, made_from
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.preflight import preflight
from tutelage.planning.roles import bound_model
from tutelage.planning.sources import Sources
from tutelage.planning.steps import Judge, Sample, Train, Worker, WritePrompts
from tutelage.plugin_info import Finding, PluginInfo, RunNeeds
from tutelage.plugins.registry import Registry
from tutelage.recipe.bindings import Binding, Roles, Student
from tutelage.recipe.loading import from_values, load_recipe, to_values
from tutelage.recipe.schema import Recipe
from tutelage.records import Candidate, Judgement, Sampling
from tutelage.services.requests import Endpoint

ENGINE = {"plugin": "engine"}
M1_ANSWERS = "seed-0/M1/samples/candidates.jsonl"
M1 = "seed-0/M1/checkpoint"


@frozen
class Settings:
    precision: str = "full"
    memory: float = 0.9


class Engine:
    """A plugin that answers and judges, and cannot train."""

    def __init__(self, **info: Any) -> None:
        self.info = PluginInfo("An engine.", settings=Settings, neutral_settings=("memory",), **info)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def generate_candidates(self) -> Iterator[Candidate]:
        yield from ()

    @hookimpl
    def judge(self) -> Iterator[Judgement]:
        yield from ()


def recipe_with(generator: dict[str, Any] | None = ENGINE, **changes: Any) -> Recipe:
    values = numbers_recipe(**changes)
    values["models"]["student"]["generator"] = generator
    return from_values(values)


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(Engine(), "engine")
    return numbers_registry


def fingerprints(recipe: Recipe, registry: Registry) -> dict[str, MadeFrom]:
    return made_from(make_plan(recipe), Sources(recipe, registry), lambda artifact: None)


def test_the_students_models_answer_and_judge_as_the_generator_and_train_as_the_student() -> None:
    prompts = {**numbers_recipe()["data"]["prompts"], "self_instruct": {}}
    recipe = recipe_with(data={**numbers_recipe()["data"], "prompts": prompts})
    steps = make_plan(recipe).steps
    of_students = [step for step in steps if isinstance(step, Sample | Judge | WritePrompts)]
    roles = {(type(step), step.worker.role) for step in of_students if step.worker.id.startswith("M")}
    assert roles == {(Sample, "generator"), (Judge, "generator"), (WritePrompts, "generator")}
    trained = [step for step in steps if isinstance(step, Train)]
    assert {worker.role for step in trained for worker in (step.start, step.reference) if worker} == {"student"}
    [answers] = [step for step in of_students if step.output == M1_ANSWERS]
    assert answers.worker == Worker("generator", "M1", M1)


def test_the_generator_runs_the_students_model_and_needs_the_hooks_that_the_student_then_does_not() -> None:
    recipe = recipe_with()
    needed = roles_needed(recipe)
    assert needed["student"] == {"train_step"}
    assert needed["generator"] == {"generate_candidates", "judge"}


def test_the_model_of_the_generator_is_the_students_by_the_generators_plugin(registry: Registry) -> None:
    recipe = recipe_with({"plugin": "engine", "settings": {"precision": "half"}})
    model = bound_model(recipe, "generator", registry)
    assert (model.plugin, model.name, model.settings) == ("engine", "novice", {"precision": "half"})
    assert bound_model(recipe, "student", registry).plugin == "numbers"


def test_a_recipe_with_a_generator_passes_the_checks_and_one_without_has_none(registry: Registry) -> None:
    checked_plan(recipe_with(), registry)
    assert all(
        getattr(step, "worker", None) is None or step.worker.role != "generator"  # type: ignore[attr-defined]
        for step in checked_plan(recipe_with(None), registry).steps
    )


def problems_of(recipe: Recipe, registry: Registry) -> list[str]:
    with pytest.raises((InputError, PluginError)) as error:
        checked_plan(recipe, registry)
    return str(error.value).splitlines()


def test_a_generator_that_is_not_installed_is_named_by_its_key(registry: Registry) -> None:
    [problem] = problems_of(recipe_with({"plugin": "engin"}), registry)
    assert problem.startswith("models.student.generator.plugin: no plugin 'engin' is installed")
    assert "engine" in problem


def test_a_generator_without_the_hooks_is_refused(registry: Registry) -> None:
    class Trainer:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Trains.")

        @hookimpl
        def demonstrate(self) -> None: ...

    registry.register(Trainer(), "trainer")
    problems = problems_of(recipe_with({"plugin": "trainer"}), registry)
    assert [problem.partition(";")[0] for problem in problems] == [
        "models.student.generator: plugin 'trainer' (registered manually) does not implement 'generate_candidates'",
        "models.student.generator: plugin 'trainer' (registered manually) does not implement 'judge'",
    ]


class SamplingEngine:
    """A plugin whose hooks take the parameters of sampling."""

    def __init__(self, *sampling: str) -> None:
        self.info = PluginInfo("An engine.", sampling=sampling)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def generate_candidates(self, sampling: Sampling) -> Iterator[Candidate]:
        yield from ()

    @hookimpl
    def judge(self, sampling: Sampling) -> Iterator[Judgement]:
        yield from ()


def test_sampling_keys_are_checked_against_the_generator_not_the_students_plugin(registry: Registry) -> None:
    """The plugin ``numbers``, which trains, applies neither key."""
    changes: dict[str, Any] = {
        "generation": {"top_k": 5},
        "judging": {**numbers_recipe()["judging"], "min_p": 0.1},
        "pipelines": {"self-reward": None},
        "controls": {},
        "evaluation": None,
    }
    registry.register(SamplingEngine("top_k", "min_p"), "knowing")
    checked_plan(recipe_with({"plugin": "knowing"}, **changes), registry)
    registry.register(SamplingEngine(), "plain")
    problems = problems_of(recipe_with({"plugin": "plain"}, **changes), registry)
    assert [problem.partition(" (")[0] for problem in problems] == [
        "generation.top_k: 5; plugin 'plain'",
        "judging.min_p: 0.1; plugin 'plain'",
    ]


def test_wrong_settings_of_a_generator_are_named_by_their_key(registry: Registry) -> None:
    [problem] = problems_of(recipe_with({"plugin": "engine", "settings": {"precison": "half"}}), registry)
    assert problem.startswith("models.student.generator.settings (plugin engine)")
    assert "precision" in problem


def test_a_service_cannot_be_the_generator(registry: Registry) -> None:
    class Service(Engine):
        @hookimpl
        def endpoint(self, name: str) -> Endpoint:
            return Endpoint("far", "https://far.invalid", name)

    registry.register(Service(), "far")
    [problem] = problems_of(recipe_with({"plugin": "far"}), registry)
    assert problem == (
        "models.student.generator.plugin: 'far' calls a service, which does not have the models that the run trains; "
        "use a plugin that runs a folder of weights on this machine"
    )


def test_a_generator_needs_the_name_of_the_students_model(registry: Registry) -> None:
    models = {**numbers_recipe()["models"], "student": {"plugin": "numbers", "generator": ENGINE}}
    [problem] = problems_of(from_values(numbers_recipe(models=models)), registry)
    assert problem.startswith("models.student.model: missing; the generator needs it")


def test_a_generator_cannot_have_a_model_of_its_own() -> None:
    with pytest.raises(InputError, match=r"models\.student\.generator.*model"):
        recipe_with({"plugin": "engine", "model": "other"})


def test_the_model_is_checked_by_the_generators_own_check(numbers_registry: Registry) -> None:
    asked: list[tuple[str, frozenset[str]]] = []

    class Checking(Engine):
        @hookimpl
        def check_run(self, name: str, needs: RunNeeds) -> Iterator[Finding]:
            asked.append((name, needs.hooks))
            yield Finding("model", False, "does not fit")

    numbers_registry.register(Checking(), "engine")
    found = preflight(Sources(recipe_with(), numbers_registry))
    assert found.problems == ("models.student.generator: does not fit",)
    assert asked == [("novice", frozenset({"generate_candidates", "judge"}))]


def test_a_generator_that_no_step_uses_is_a_notice(registry: Registry) -> None:
    data = {"preferences": {"source": "numbers/pairs", "count": 8}}
    values: dict[str, Any] = {"pipelines": {"own-preferences": None}, "controls": {}, "iterations": 1}
    recipe = recipe_with(**values, data=data, evaluation=None)
    notice = "models.student.generator: has no effect, because the student neither samples nor judges in this recipe"
    assert notice in preflight(Sources(recipe, registry)).notices


def test_a_generator_makes_the_answers_again_and_not_m1(registry: Registry) -> None:
    without, bound = (fingerprints(recipe_with(generator), registry) for generator in (None, ENGINE))
    assert without[M1].fingerprint == bound[M1].fingerprint
    assert without[M1_ANSWERS].fingerprint != bound[M1_ANSWERS].fingerprint
    assert bound[M1_ANSWERS].values["generator.plugin"] == "engine"
    assert not [key for key in bound[M1_ANSWERS].values if key.startswith("student.")]


def test_of_the_generators_settings_those_that_change_results_count(registry: Registry) -> None:
    plain, neutral, other = (
        fingerprints(recipe_with({"plugin": "engine", "settings": settings}), registry)
        for settings in ({}, {"memory": 0.5}, {"precision": "half"})
    )
    assert {path: made.fingerprint for path, made in plain.items()} == {
        path: made.fingerprint for path, made in neutral.items()
    }
    assert plain[M1].fingerprint == other[M1].fingerprint
    assert other[M1_ANSWERS].values["generator.settings.precision"] == "half"
    assert plain[M1_ANSWERS].fingerprint != other[M1_ANSWERS].fingerprint


def test_a_new_version_of_the_generators_results_makes_the_answers_again(numbers_registry: Registry) -> None:
    older, newer = numbers_registry, Registry.empty()
    import echoing_world

    newer.register(echoing_world, "numbers")
    older.register(Engine(), "engine")
    newer.register(Engine(result_version=2), "engine")
    before, after = (fingerprints(recipe_with(), registry) for registry in (older, newer))
    assert before[M1].fingerprint == after[M1].fingerprint
    assert before[M1_ANSWERS].fingerprint != after[M1_ANSWERS].fingerprint


def test_the_content_of_m0_counts_for_the_generator_as_for_the_student(registry: Registry, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "weights.json").write_text('{"skill": 0.1}')
    models = numbers_recipe()["models"]
    models["student"] |= {"model": str(weights), "generator": ENGINE}
    recipe = from_values(numbers_recipe(models=models))
    output = next(path for path in fingerprints(recipe, registry) if "M0" in path and "greedy" in path)
    before = fingerprints(recipe, registry)[output]
    shutil.copytree(weights, moved := tmp_path / "moved")
    models["student"]["model"] = str(moved)
    assert fingerprints(from_values(numbers_recipe(models=models)), registry)[output] == before
    (moved / "weights.json").write_text('{"skill": 0.2}')
    assert fingerprints(from_values(numbers_recipe(models=models)), registry)[output] != before


def test_a_student_that_is_made_in_python_needs_no_generator(registry: Registry) -> None:
    recipe = recipe_with(None)
    plain = evolve(recipe, models=Roles(student=Binding("numbers", "numbers/novice"), teacher=recipe.models.teacher))
    assert plain.models.student == Student("numbers", "numbers/novice")
    assert to_values(plain)["models"]["student"]["generator"] is None


def test_the_generator_is_set_and_removed_by_its_dotted_key(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_values(recipe_with(None))))
    bound = load_recipe(path, {"models.student.generator.plugin": "engine"}).models.student.generator
    assert bound is not None and bound.plugin == "engine"
    path.write_text(yaml.safe_dump(to_values(recipe_with())))
    assert load_recipe(path, {"models.student.generator": None}).models.student.generator is None
