from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from attrs import evolve
from known import known

from tutelage.errors import InputError
from tutelage.objectives import Dpo, Sft
from tutelage.planning.checks import checked_plan
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.steps import Demonstrate, JoinPairs, Judge, MakePairs, Plan, Sample, SelectPrompts, Step, Train
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Generation, Judging, Recipe

StepT = TypeVar("StepT", bound=Step)


def steps_of(plan: Plan, kind: type[StepT]) -> dict[str, StepT]:
    return {step.output: step for step in plan.steps if isinstance(step, kind)}


def test_the_inputs_of_every_step_are_outputs_of_earlier_steps(make_recipe: Callable[..., Recipe]) -> None:
    seen: set[str] = set()
    for step in make_plan(make_recipe(seeds=[0, 3])).steps:
        assert set(step.inputs) <= seen, step.output
        assert step.output not in seen
        seen.add(step.output)
    assert "summary.json" in seen


def test_the_models_of_a_run_have_the_names_of_the_design(make_recipe: Callable[..., Recipe]) -> None:
    plan = make_plan(make_recipe())
    assert [model.id for model in plan.models] == [
        "M0",
        "M1",
        "M2/self-reward",
        "M2/teacher-reward",
        "M2/teacher-demonstration",
        "M2/random-pairs",
        "M2/sft-on-chosen",
        "M3/self-reward",
        "M3/teacher-reward",
        "M3/teacher-demonstration",
    ]


def test_each_model_samples_with_its_own_weights_and_trains_from_its_parent(make_recipe: Callable[..., Recipe]) -> None:
    plan = make_plan(make_recipe())
    samples, trainings = steps_of(plan, Sample), steps_of(plan, Train)
    own = samples["seed-0/self-reward/M2/samples/candidates.jsonl"]
    assert own.worker.checkpoint == "seed-0/self-reward/M2/checkpoint"
    third = trainings["seed-0/self-reward/M3/checkpoint"]
    assert third.start == third.reference
    assert third.start.id == "M2/self-reward"
    assert third.examples == "seed-0/self-reward/M3/preferences.jsonl"


@pytest.mark.parametrize("keep", [False, True])
def test_candidates_and_demonstrations_keep_thinking_blocks_as_the_recipe_says_and_measured_answers_never(
    make_recipe: Callable[..., Recipe], keep: bool
) -> None:
    plan = make_plan(make_recipe(generation={"keep_thinking": keep}))
    samples, demonstrations = steps_of(plan, Sample), steps_of(plan, Demonstrate)
    learned = [step for output, step in samples.items() if output.endswith("candidates.jsonl")]
    measured = [step for step in samples.values() if step not in learned]
    assert learned and demonstrations and measured
    assert {step.sampling.keep_thinking for step in learned} == {keep}
    assert {step.sampling.keep_thinking for step in demonstrations.values()} == {keep}
    assert not any(step.sampling.keep_thinking for step in measured)


def test_all_pipelines_share_the_first_models_samples(make_recipe: Callable[..., Recipe]) -> None:
    pairs = steps_of(make_plan(make_recipe()), MakePairs)
    second = [step for output, step in pairs.items() if "/M2/" in output]
    assert len(second) == 4
    assert {step.candidates for step in second} == {"seed-0/M1/samples/candidates.jsonl"}


def test_in_self_reward_the_model_that_wrote_the_candidates_judges_them(make_recipe: Callable[..., Recipe]) -> None:
    judging = steps_of(make_plan(make_recipe()), Judge)
    assert judging["seed-0/self-reward/M3/judgements.jsonl"].worker.id == "M2/self-reward"
    assert judging["seed-0/teacher-reward/M3/judgements.jsonl"].worker.role == "judge"


def test_no_prompt_is_used_by_two_iterations(make_recipe: Callable[..., Recipe]) -> None:
    prompts = steps_of(make_plan(make_recipe()), SelectPrompts)
    first, second = (
        prompts["seed-0/M1/samples/prompts.jsonl"],
        prompts["seed-0/self-reward/M2/samples/prompts.jsonl"],
    )
    assert (first.skip, first.take) == (0, 40)
    assert (second.skip, second.take) == (40, 40)


@pytest.mark.parametrize(("reference", "second", "third"), [("M0", "M0", "M0"), ("M1", "M1", "M1")])
def test_the_reference_policy_is_a_setting(
    make_recipe: Callable[..., Recipe], reference: str, second: str, third: str
) -> None:
    trainings = steps_of(make_plan(make_recipe(reference=reference)), Train)
    rounds = [trainings[f"seed-0/self-reward/M{number}/checkpoint"] for number in (2, 3)]
    assert [known(step.reference).id for step in rounds] == [second, third]
    assert [step.start.id for step in rounds] == ["M1", "M2/self-reward"]
    assert known(rounds[1].reference).checkpoint == ("" if reference == "M0" else "seed-0/M1/checkpoint")


def test_a_round_may_start_from_the_first_model_again_with_the_pairs_of_all_rounds(
    make_recipe: Callable[..., Recipe],
) -> None:
    plan = make_plan(make_recipe(start="M1", preferences="all"))
    third = steps_of(plan, Train)["seed-0/self-reward/M3/checkpoint"]
    assert third.start.id == "M1"
    assert known(third.reference).id == "M2/self-reward"
    joined = steps_of(plan, JoinPairs)[third.examples]
    assert joined.parts == ("seed-0/self-reward/M2/preferences.jsonl", "seed-0/self-reward/M3/preferences.jsonl")
    assert steps_of(plan, Train)["seed-0/self-reward/M2/checkpoint"].examples == joined.parts[0]
    assert third.count == 2 * steps_of(plan, Train)["seed-0/self-reward/M2/checkpoint"].count


def test_a_recipe_without_evaluation_needs_no_evaluator(make_recipe: Callable[..., Recipe]) -> None:
    assert "evaluator" not in roles_needed(make_recipe(evaluation=None))
    assert roles_needed(make_recipe())["evaluator"] == {"judge", "evaluate"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pipelines": {"self-rewards": None}, "controls": {}}, "'self-rewards'; did you mean 'self-reward'"),
        ({"controls": {"random-pair": {"mirrors": "self-reward"}}}, "no control 'random-pair'; did you mean"),
        ({"controls": {"random-pairs": {"mirrors": "self"}}}, "this recipe runs no pipeline 'self'"),
        ({"judging": {"rubric": "numbers/number"}}, "rubric 'numbers/number'"),
        ({"pairs": {"rule": "best-wurst"}}, "no pair rule 'best-wurst'; did you mean 'best-worst'"),
        ({"iterations": 26}, "data.prompts: numbers/train: 1040 different rows are needed, but there are only 1000"),
    ],
)
def test_a_recipe_that_names_something_unknown_fails_before_anything_runs(
    make_recipe: Callable[..., Recipe], numbers_registry: Registry, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        checked_plan(make_recipe(**changes), numbers_registry)


def test_the_error_for_a_required_role_that_is_not_bound_names_the_role(
    make_recipe: Callable[..., Recipe], numbers_registry: Registry
) -> None:
    recipe = make_recipe(models={"student": {"plugin": "numbers", "model": "numbers/novice"}})
    with pytest.raises(InputError, match=r"models\.judge: missing"):
        checked_plan(recipe, numbers_registry)


def test_a_changed_recipe_object_changes_the_steps_of_every_pipeline_and_control(
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = evolve(make_recipe(), dpo=Dpo(beta=0.3), sft=Sft(epochs=7.0), judging=Judging("numbers/numbers", 3))
    plan = make_plan(recipe)
    objectives = [step.objective for step in plan.steps if isinstance(step, Train)]
    assert {objective.beta for objective in objectives if isinstance(objective, Dpo)} == {0.3}
    assert {objective.epochs for objective in objectives if isinstance(objective, Sft)} == {7.0}
    judged = [step for step in plan.steps if isinstance(step, Judge) and step.output.endswith("/judgements.jsonl")]
    assert {step.samples for step in judged} == {3}


def test_a_recipe_object_with_a_wrong_value_is_refused_before_its_plan_is_made(
    make_recipe: Callable[..., Recipe], numbers_registry: Registry
) -> None:
    with pytest.raises(InputError, match=r"generation.n: 1; a pair needs at least 2 candidates"):
        checked_plan(evolve(make_recipe(), generation=Generation(n=1)), numbers_registry)
