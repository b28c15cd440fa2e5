"""The steps that the pipelines and controls of a plugin become, and the checks of a recipe that names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import critic_world
import pytest
from attrs import evolve

from tutelage.errors import InputError, PluginError, TutelageError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import Dpo
from tutelage.pipeline_steps import PipelineStep, TrainStep, TransformStep
from tutelage.planning.checks import checked_plan
from tutelage.planning.declared import declared
from tutelage.planning.made_from import made_from
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.sources import Sources
from tutelage.planning.steps import JoinPairs, Judge, Plan, Sample, Train, Transform
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(critic_world, "critic")
    return numbers_registry


def of(pipeline: str = "critic/revise", **changes: Any) -> dict[str, Any]:
    return {"pipelines": {pipeline: None}, "controls": {}, **changes}


def step(plan: Plan, output: str) -> Any:
    return next(step for step in plan.steps if step.output == output)


def plan_of(recipe: Recipe, registry: Registry) -> Plan:
    return make_plan(recipe, declared=declared(recipe, registry))


def test_a_pipeline_of_a_plugin_is_planned_round_by_round(make_recipe: Make, registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of(evaluation=None)), registry)
    assert [model.id for model in plan.models] == ["M0", "M1", "M2/critic/revise", "M3/critic/revise"]
    second = [
        one.output.removeprefix("seed-0/") for one in plan.steps if one.output.startswith("seed-0/critic/revise/M3")
    ]
    folder = "critic/revise/M3"
    assert second == [
        f"{folder}/{name}" for name in ("requests.jsonl", "corrections.jsonl", "pairs.jsonl", "checkpoint")
    ]
    seen: set[str] = set()
    for one in plan.steps:
        assert set(one.inputs) <= seen, one.output
        seen.add(one.output)


def test_a_transform_knows_its_function_and_the_kinds_of_what_it_reads(make_recipe: Make, registry: Registry) -> None:
    transform = step(checked_plan(make_recipe(**of()), registry), "seed-0/critic/revise/M3/requests.jsonl")
    assert isinstance(transform, Transform)
    assert transform.function == "critic_world:requests"
    samples = "seed-0/critic/revise/M2/samples"
    assert transform.reads == ((f"{samples}/prompts.jsonl", "prompts"), (f"{samples}/candidates.jsonl", "candidates"))
    assert (transform.count, transform.unit, transform.stage) == (20, "prompts", "transform")


def test_a_sample_of_requests_is_answered_by_its_role_and_costed_as_any_sample(
    make_recipe: Make, registry: Registry
) -> None:
    recipe = make_recipe(**of(evaluation=None))
    sample = step(checked_plan(recipe, registry), "seed-0/critic/revise/M2/corrections.jsonl")
    assert isinstance(sample, Sample)
    assert (sample.worker.role, sample.n, sample.count, sample.sampling.temperature) == ("teacher", 1, 20, 0)
    assert roles_needed(recipe, declared(recipe, registry))["teacher"] == {"generate_candidates"}


def test_pipelines_share_the_samples_with_built_in_ones(make_recipe: Make, registry: Registry) -> None:
    plan = checked_plan(make_recipe(pipelines={"critic/revise": None, "self-reward": None}, controls={}), registry)
    own = [one for one in plan.steps if isinstance(one, Sample) and one.output == "seed-0/M1/samples/candidates.jsonl"]
    assert len(own) == 1


def test_the_predecessor_judges_with_its_own_weights(make_recipe: Make, registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of("critic/two-judges", evaluation=None)), registry)
    earlier = [step(plan, f"seed-0/critic/two-judges/M{number}/earlier.jsonl") for number in (2, 3)]
    assert [one.worker.id for one in earlier if isinstance(one, Judge)] == ["M0", "M1"]
    assert earlier[1].worker.checkpoint == "seed-0/M1/checkpoint"
    joined = step(plan, "seed-0/critic/two-judges/M3/both.jsonl")
    assert isinstance(joined, JoinPairs) and len(joined.parts) == 2


def test_the_pairs_of_all_rounds_and_of_the_user_join_those_of_a_plugins_pipeline(
    make_recipe: Make, registry: Registry
) -> None:
    data = {
        "ift": {"source": "numbers/ift", "count": 8},
        "prompts": {"source": "numbers/train", "count": 40},
        "preferences": {"source": "numbers/pairs", "count": 30, "join": ["critic/revise"]},
    }
    plan = checked_plan(make_recipe(**of(data=data, preferences="all")), registry)
    third = step(plan, "seed-0/critic/revise/M3/checkpoint")
    assert step(plan, third.examples).parts == (
        "seed-0/own-preferences.jsonl",
        "seed-0/critic/revise/M2/pairs.jsonl",
        "seed-0/critic/revise/M3/pairs.jsonl",
    )


def test_the_settings_of_a_declaration_replace_those_of_the_section_and_the_recipes_override_replaces_them(
    make_recipe: Make, registry: Registry
) -> None:
    def betas(**changes: Any) -> set[float]:
        steps = checked_plan(make_recipe(evaluation=None, **changes), registry).steps
        objectives = [one.objective for one in steps if isinstance(one, Train)]
        return {objective.beta for objective in objectives if isinstance(objective, Dpo)}

    assert betas(**of(dpo={"beta": 0.7, "epochs": 2})) == {0.2}
    assert betas(pipelines={"critic/revise": {"dpo": {"beta": 0.9}}}, controls={}) == {0.9}
    mirroring = {"critic/reversed": {"mirrors": "critic/revise"}}
    assert betas(pipelines={"critic/revise": None}, controls=mirroring) == {0.2, 0.1}


def test_a_control_of_a_plugin_mirrors_the_first_round_of_any_pipeline(make_recipe: Make, registry: Registry) -> None:
    control = {"critic/reversed": {"mirrors": "self-reward"}}
    plan = checked_plan(make_recipe(pipelines={"self-reward": None}, controls=control), registry)
    assert plan.model(0, "M2/critic/reversed").parent == "M1"
    pairs = step(plan, "seed-0/critic/reversed/M2/pairs.jsonl")
    assert pairs.inputs == ("seed-0/self-reward/M2/preferences.jsonl",)


def fingerprints(recipe: Recipe, registry: Registry) -> dict[str, str]:
    made = made_from(plan_of(recipe, registry), Sources(recipe, registry), lambda artifact: None)
    return {path: one.fingerprint for path, one in made.items()}


class Changed:
    """The plugin of ``critic_world`` in a later release."""

    def __init__(self, info: PluginInfo) -> None:
        self.info = info

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info


@pytest.mark.parametrize("change", ["result_version", "function", "training"])
def test_what_changes_the_results_of_a_pipeline_changes_the_fingerprints_that_depend_on_it(
    make_recipe: Make, numbers_registry: Registry, change: str
) -> None:
    info = critic_world.describe()
    before, recipe = critic_world.REVISE, make_recipe(**of(evaluation=None))
    steps: list[PipelineStep] = list(before.steps)
    if change == "function":
        steps[1] = TransformStep("requests", critic_world.answers, ("prompts", "candidates"), "prompts", 0.5)
    if change == "training":
        steps[-1] = TrainStep("pairs", settings={"beta": 0.3})
    later = evolve(info, pipelines={"revise": evolve(before, steps=tuple(steps))}, result_version=1)
    later = evolve(later, result_version=2) if change == "result_version" else later
    found = []
    for one in (info, later):
        numbers_registry.register(Changed(one), "critic")
        found.append(fingerprints(recipe, numbers_registry))
        numbers_registry.unregister("critic")
    differs = {path for path in found[0] if found[0][path] != found[1][path]}
    assert "seed-0/critic/revise/M2/checkpoint" in differs
    assert ("seed-0/critic/revise/M2/requests.jsonl" in differs) == (change != "training")
    assert "seed-0/M1/samples/candidates.jsonl" not in differs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            of("critic/revize"),
            r"pipelines: plugin 'critic'.* has no pipeline 'critic/revize'; did you mean 'critic/rev",
        ),
        (
            of("critics/revise"),
            r"no pipeline 'critics/revise': no plugin 'critics' is installed; did you mean 'critic'",
        ),
        (
            of(controls={"critic/reverse": {"mirrors": "critic/revise"}}),
            r"has no control 'critic/reverse'; did you mean",
        ),
        (
            of("critic/spin", controls={"random-pairs": {"mirrors": "critic/spin"}}),
            "does not use fresh prompts, and the",
        ),
        (
            of("critic/spin", data={"eft": {"source": "numbers/eft", "count": 8}}),
            "data.ift: missing; critic/spin reads",
        ),
        (of(data={"ift": {"source": "numbers/ift", "count": 8}}), "data.prompts: missing; critic/revise needs fresh"),
        (
            of(models={"student": {"plugin": "numbers", "model": "numbers/novice"}}, evaluation=None),
            "models.teacher: mis",
        ),
        (of(pipelines={"critic/revise": {"dpo": {"betta": 1}}}), "pipelines.critic/revise.dpo.betta"),
    ],
)
def test_a_recipe_that_does_not_fit_a_pipeline_of_a_plugin_fails_before_anything_runs(
    make_recipe: Make, registry: Registry, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TutelageError, match=message):
        checked_plan(make_recipe(**changes), registry)


class Mute:
    """A teacher that only demonstrates."""

    @hookimpl
    def demonstrate(self) -> list[Any]:
        return []


def test_a_role_whose_plugin_lacks_the_hook_of_a_step_is_named(make_recipe: Make, registry: Registry) -> None:
    registry.register(Mute(), "mute")
    models = {"student": {"plugin": "numbers", "model": "numbers/novice"}, "teacher": {"plugin": "mute"}}
    with pytest.raises(PluginError, match=r"'mute'.* does not implement 'generate_candidates'"):
        checked_plan(make_recipe(**of(models=models, evaluation=None)), registry)


def test_a_name_cannot_be_a_pipeline_and_a_control_of_one_recipe(make_recipe: Make, numbers_registry: Registry) -> None:
    info = evolve(critic_world.describe(), controls={"revise": critic_world.REVERSED})
    numbers_registry.register(Changed(info), "critic")
    recipe = make_recipe(**of(controls={"critic/revise": {"mirrors": "critic/revise"}}))
    with pytest.raises(InputError, match=r"controls\.critic/revise: a pipeline of this recipe has the same name"):
        checked_plan(recipe, numbers_registry)
