"""The objective that a recipe names for a pipeline: its plan, its settings, and the checks before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import approving_world
import pytest
from attrs import evolve

from tutelage import MIRRORED_PAIRS, Pipeline, PluginInfo, TrainStep, hookimpl
from tutelage.errors import InputError, PluginError
from tutelage.objectives import Dpo
from tutelage.planning.checks import checked_plan
from tutelage.planning.declared import declared
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.planning.made_from import made_from
from tutelage.planning.sources import Sources
from tutelage.planning.steps import ChosenExamples, JoinPairs, MakePairs, Plan, Train
from tutelage.planning.trained_by import from_plain, to_plain
from tutelage.planning.unused_keys import unused_keys
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]
APPROVE = "approving/approve"
MODELS = {
    "student": {"plugin": "learner", "model": "numbers/novice"},
    "teacher": {"plugin": "numbers"},
    "evaluator": {"plugin": "numbers"},
}
SMALL: dict[str, Any] = {"models": MODELS, "controls": {}, "evaluation": None, "iterations": 1}


@pytest.fixture
def registry(numbers_registry: Registry) -> Registry:
    numbers_registry.register(approving_world.Offering(), "approving")
    numbers_registry.register(approving_world.Learner(), "learner")
    return numbers_registry


def of(name: str = "self-reward", objective: str | None = APPROVE, **own: Any) -> dict[str, Any]:
    return {**SMALL, "pipelines": {name: {**({"objective": objective} if objective else {}), **own}}}


def training(plan: Plan) -> Train:
    [found] = [step for step in plan.steps if isinstance(step, Train) and step.model != "M1"]
    return found


def maker(plan: Plan) -> Any:
    return next(step for step in plan.steps if step.output == training(plan).examples)


@pytest.mark.parametrize("pipeline", ["self-reward", "teacher-reward", "teacher-demonstration"])
def test_an_objective_on_labelled_answers_trains_on_both_sides_of_the_pairs(
    make_recipe: Make, registry: Registry, pipeline: str
) -> None:
    plan = checked_plan(make_recipe(**of(pipeline)), registry)
    unpair = maker(plan)
    assert isinstance(unpair, UnpairAnswers)
    assert isinstance(next(step for step in plan.steps if step.output == unpair.preferences), MakePairs)
    assert (unpair.output, unpair.count) == (f"seed-0/{pipeline}/M2/trained-on.jsonl", 80)
    train = training(plan)
    assert (type(train.objective), train.count) == (approving_world.Approve, 80)
    assert train.reference is not None


@pytest.mark.parametrize("pipeline", ["self-reward", "teacher-reward"])
def test_with_a_threshold_the_scored_answers_are_labelled_and_no_pairs_are_made(
    make_recipe: Make, registry: Registry, pipeline: str
) -> None:
    recipe = make_recipe(**of(pipeline, pairs={"threshold": 3.0, "keep_cut": True}))
    plan = checked_plan(recipe, registry)
    label = maker(plan)
    assert isinstance(label, LabelAnswers)
    assert label.output == f"seed-0/{pipeline}/M2/trained-on.jsonl"
    assert (label.threshold, label.keep_cut, label.count) == (3.0, True, 160)
    assert label.judgements == f"seed-0/{pipeline}/M2/judgements.jsonl"
    assert not any(isinstance(step, MakePairs) for step in plan.steps)
    assert list(unused_keys(recipe, declared(recipe, registry))) == []


def test_a_pipeline_can_be_trained_by_sft_on_its_chosen_answers(make_recipe: Make, registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of(objective="sft")), registry)
    assert isinstance(maker(plan), ChosenExamples)
    assert (training(plan).objective.label, training(plan).reference) == ("SFT", None)


def test_the_pairs_of_all_rounds_and_of_the_user_are_joined_before_they_are_labelled(
    make_recipe: Make, registry: Registry
) -> None:
    data = make_recipe().data
    own = evolve(make_recipe(**of(), preferences="all"), iterations=2)
    joined = evolve(own, data=evolve(data, preferences=_own_pairs(join=("self-reward",))))
    steps = {step.output: step for step in checked_plan(joined, registry).steps}
    unpair = steps["seed-0/self-reward/M3/trained-on.jsonl"]
    assert isinstance(unpair, UnpairAnswers)
    join = steps[unpair.preferences]
    assert isinstance(join, JoinPairs) and len(join.parts) == 3
    assert unpair.count == 2 * join.count


def _own_pairs(**changes: Any) -> Any:
    from tutelage.recipe.data_section import Preferences

    return Preferences("numbers/pairs", 10, **changes)


def test_controls_mirror_the_pairs_of_a_pipeline_that_is_trained_on_labelled_answers(
    make_recipe: Make, registry: Registry
) -> None:
    controls = {"random-pairs": {"mirrors": "self-reward"}, "sft-on-chosen": {"mirrors": "self-reward"}}
    steps = {step.output: step for step in checked_plan(make_recipe(**{**of(), "controls": controls}), registry).steps}
    pairs = "seed-0/self-reward/M2/preferences.jsonl"
    assert pairs in steps["seed-0/random-pairs/M2/preferences.jsonl"].inputs
    assert steps["seed-0/sft-on-chosen/M2/examples.jsonl"].inputs == (pairs,)


def test_a_control_of_a_plugin_trains_with_its_objective_on_what_the_pipeline_makes(
    make_recipe: Make, registry: Registry
) -> None:
    controls = {"approving/approved": {"mirrors": "self-reward"}}
    paired = checked_plan(make_recipe(**{**of(objective=None), "controls": controls}), registry)
    steps = {step.output: step for step in paired.steps}
    made = "seed-0/approving/approved/M2/trained-on.jsonl"
    assert steps[made].inputs == ("seed-0/self-reward/M2/preferences.jsonl",)
    labelled = checked_plan(make_recipe(**{**of(pairs={"threshold": 3.0}), "controls": controls}), registry)
    steps = {step.output: step for step in labelled.steps}
    train = steps["seed-0/approving/approved/M2/checkpoint"]
    assert train.inputs[0] == "seed-0/self-reward/M2/trained-on.jsonl" and made not in steps
    ranked = {"approving/ranked": {"mirrors": "self-reward"}}
    with pytest.raises(InputError, match="self-reward trains on labelled, and the control needs its preferences"):
        checked_plan(make_recipe(**{**of(pairs={"threshold": 3.0}), "controls": ranked}), registry)


def test_a_wrong_setting_in_the_declaration_of_a_control_is_named_with_the_control(
    make_recipe: Make, registry: Registry
) -> None:
    class Wrong:
        @hookimpl
        def describe(self) -> PluginInfo:
            training = TrainStep(MIRRORED_PAIRS, objective=APPROVE, settings={"betta": 1.0})
            return PluginInfo("", controls={"control": Pipeline("wrong", (training,))})

    registry.register(Wrong(), "wrong")
    recipe = make_recipe(**{**of(), "controls": {"wrong/control": {"mirrors": "self-reward"}}})
    with pytest.raises(
        InputError, match=rf"controls\.wrong/control\.objectives\.{APPROVE}: betta: unknown key; did you"
    ):
        checked_plan(recipe, registry)


def test_an_override_of_the_pipeline_precedes_its_declaration_and_the_top_level_section(
    make_recipe: Make, registry: Registry
) -> None:
    def beta(own: dict[str, Any], general: dict[str, Any], name: str = "approving/doubtful") -> float:
        objectives = {"objectives": {APPROVE: general}} if general else {}
        recipe = make_recipe(**{**SMALL, **objectives, "pipelines": {name: own}})
        objective = training(checked_plan(recipe, registry)).objective
        assert isinstance(objective, approving_world.Approve)
        return objective.beta

    assert beta({}, {}) == 0.4
    assert beta({}, {"beta": 0.3}) == 0.4
    assert beta({"objectives": {APPROVE: {"beta": 0.5}}}, {"beta": 0.3}) == 0.5
    assert beta({"objective": APPROVE}, {"beta": 0.3}, "self-reward") == 0.3
    assert beta({"objective": APPROVE}, {}, "self-reward") == 0.2


def test_the_seed_of_the_series_is_that_of_the_objective(make_recipe: Make, registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of(), **{"seeds": [0, 7]}), registry)
    found = [step.objective.seed for step in plan.steps if isinstance(step, Train) and step.model != "M1"]
    assert found == [0, 7]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            of(objective="approving/aprove"),
            "pipelines.self-reward.objective: plugin 'approving' (registered manually) has",
        ),
        (of(objective="approving/aprove"), "no objective 'approving/aprove'; did you mean 'approving/approve'"),
        (of(objective="ppo"), "pipelines.self-reward.objective: no objective 'ppo'; "),
        (
            of(objective="approving/rank"),
            "pipelines.self-reward.objective: plugin 'learner' (registered manually) does",
        ),
        (
            of("approving/doubtful", "dpo"),
            "pipelines.approving/doubtful.objective: dpo trains on preferences, and approving/doubtful makes labelled; "
            "use approving/approve",
        ),
        (
            of(objectives={APPROVE: {"beta": -1.0}}),
            f"pipelines.self-reward.objectives.{APPROVE}.beta: -1.0; it must be",
        ),
        (of(objectives={APPROVE: {"bta": 1.0}}), f"pipelines.self-reward.objectives.{APPROVE}: bta: unknown key"),
        ({**of(), "objectives": {APPROVE: {"batch_size": 0}}}, f"objectives.{APPROVE}.batch_size: 0; must be positive"),
        ({**of(), "objectives": {APPROVE: {"seed": 3}}}, f"objectives.{APPROVE}.seed: the seed is set by `seeds`"),
        ({**of(), "objectives": {"dpo": {"beta": 0.3}}}, "objectives.dpo: not of a plugin; a built-in objective has"),
        ({**of(), "objectives": {"approving/no": {}}}, "objectives.approving/no: "),
        (
            of(pairs={"threshold": 5.5}),
            "pairs.threshold: 5.5; self-reward would give all answers one label, because the scores of the rubric "
            "'numbers/numbers' are from 0 to 5",
        ),
        (of("win-rate", pairs={"threshold": 2.0}), "pairs.threshold: 2; win-rate would give all answers one label"),
        (
            {**of(pairs={"threshold": 3.0}), "iterations": 2, "preferences": "all"},
            "preferences: all; self-reward trains on the labelled answers of its round",
        ),
        (
            {**of(pairs={"threshold": 3.0}), "controls": {"random-pairs": {"mirrors": "self-reward"}}},
            "controls.random-pairs.mirrors: self-reward trains on labelled, and the control needs its preferences",
        ),
    ],
)
def test_what_cannot_be_trained_is_a_problem_before_the_first_step(
    make_recipe: Make, registry: Registry, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises((InputError, PluginError)) as error:
        checked_plan(make_recipe(**changes), registry)
    assert problem in str(error.value)


def test_a_student_that_does_not_train_the_objective_is_refused_with_those_that_do(
    make_recipe: Make, registry: Registry
) -> None:
    models = {**MODELS, "student": {"plugin": "numbers", "model": "numbers/novice"}}
    with pytest.raises(InputError) as error:
        checked_plan(make_recipe(**{**of(), "models": models}), registry)
    assert str(error.value) == (
        "pipelines.self-reward.objective: plugin 'numbers' (registered manually) does not train approving/approve; it "
        "trains sft, dpo. Plugins that train approving/approve: learner"
    )


def test_the_users_pairs_cannot_join_answers_that_are_labelled_by_a_threshold(
    make_recipe: Make, registry: Registry
) -> None:
    recipe = make_recipe(**of(pairs={"threshold": 3.0}))
    joined = evolve(recipe, data=evolve(recipe.data, preferences=_own_pairs(join=("self-reward",))))
    with pytest.raises(
        InputError, match=r"data\.preferences\.join: self-reward trains on labelled answers, which pairs"
    ):
        checked_plan(joined, registry)


def test_a_threshold_of_the_recipe_replaces_that_of_a_plugins_step(make_recipe: Make, registry: Registry) -> None:
    for own, expected in (({}, 4.0), ({"pairs": {"threshold": 2.0}}, 2.0)):
        label = maker(checked_plan(make_recipe(**of("approving/strict", None, **own)), registry))
        assert (label.threshold, label.output) == (expected, "seed-0/approving/strict/M2/strict.jsonl")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({**of(objective=None), "objectives": {APPROVE: {"beta": 0.3}}}, f"objectives.{APPROVE}: has no effect"),
        (of(objective=None, pairs={"threshold": 3.0}), "pipelines.self-reward.pairs.threshold: has no effect"),
        (of(pairs={"threshold": 3.0, "margin": 1.0}), "pipelines.self-reward.pairs.margin: has no effect"),
        (
            of(dpo={"beta": 0.3}),
            "pipelines.self-reward.dpo.beta: has no effect, because self-reward trains by approving",
        ),
        (
            of(objective="sft", objectives={APPROVE: {"beta": 0.3}}),
            f"pipelines.self-reward.objectives.{APPROVE}: has no effect, because self-reward trains by sft",
        ),
    ],
)
def test_keys_that_the_objective_makes_ineffective_are_named(
    make_recipe: Make, registry: Registry, changes: dict[str, Any], line: str
) -> None:
    recipe = make_recipe(**changes)
    assert [found for found in unused_keys(recipe, declared(recipe, registry)) if found.startswith(line)]


def test_the_fingerprint_of_a_training_has_the_name_of_the_objective_and_its_settings(
    make_recipe: Make, registry: Registry
) -> None:
    def values(**changes: Any) -> dict[str, Any]:
        recipe = make_recipe(**{**of(), **changes})
        made = made_from(checked_plan(recipe, registry), Sources(recipe, registry), lambda _: None)
        return dict(made["seed-0/self-reward/M2/checkpoint"].values)

    found = values()
    assert (found["objective"], found["beta"]) == (APPROVE, 0.2)
    assert values(objectives={APPROVE: {"beta": 0.3}}) == {**found, "beta": 0.3}
    assert values(pipelines={"self-reward": None})["objective"] == "Dpo"


@pytest.mark.parametrize(("beta", "factor"), [(0.5, 0.5), (0.0, 1.0), (None, 1.0)])
def test_the_rewards_of_an_objective_have_the_factor_beta_if_it_is_positive(beta: Any, factor: float) -> None:
    assert approving_world.Approve(beta=beta).reward_factor == factor
    assert approving_world.Rank().reward_factor is None


def test_a_stored_objective_has_the_settings_and_their_defaults() -> None:
    for cls in (approving_world.Approve, Dpo):
        stored = from_plain(to_plain(cls))
        assert to_plain(stored) == to_plain(cls)
        assert (stored(seed=3).reward_factor, stored.examples) == (cls().reward_factor, cls.examples)
