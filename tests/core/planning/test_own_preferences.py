"""The plan of a recipe with preference pairs of the user, alone and beside the pairs of other pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from known import known

from tutelage.errors import InputError
from tutelage.planning.checks import checked_plan
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.steps import ChosenExamples, JoinPairs, MakePairs, Plan, SelectPreferences, Step, Train
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]
StepT = TypeVar("StepT", bound=Step)
SEED_EXAMPLES = {"ift": {"source": "numbers/ift", "count": 8}, "eft": {"source": "numbers/eft", "count": 8}}
PROMPTS = {"source": "numbers/train", "count": 40}


def own(count: int | None = 30, **keys: Any) -> dict[str, Any]:
    return {"source": "numbers/pairs", "count": count, **keys}


def alone(**changes: Any) -> dict[str, Any]:
    """Changes for a recipe that trains on the user's pairs alone, without seed data."""
    data = {"preferences": own()}
    return {"data": data, "pipelines": {"own-preferences": None}, "controls": {}, "iterations": 1, **changes}


def beside(*join: str, **changes: Any) -> dict[str, Any]:
    """Changes for a recipe in which the user's pairs join those of pipelines."""
    return {"data": {**SEED_EXAMPLES, "prompts": PROMPTS, "preferences": own(join=list(join))}, **changes}


def steps_of(plan: Plan, kind: type[StepT]) -> dict[str, StepT]:
    return {step.output: step for step in plan.steps if isinstance(step, kind)}


def file_of(tmp_path: Path, *rows: dict[str, Any]) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(prompt: str, chosen: str = "good", rejected: str = "bad") -> dict[str, Any]:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return {
        "prompt": said("user", prompt),
        "chosen": said("assistant", chosen),
        "rejected": said("assistant", rejected),
    }


def test_without_seed_data_one_model_is_trained_from_the_base_model(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**alone(evaluation=None)))
    assert [(model.id, model.parent) for model in plan.models] == [("M0", None), ("M2/own-preferences", "M0")]
    selected, training = plan.steps
    assert isinstance(selected, SelectPreferences) and isinstance(training, Train)
    assert (selected.output, selected.count) == ("seed-0/own-preferences/M2/preferences.jsonl", 30)
    assert (training.start.id, training.start.checkpoint, training.count) == ("M0", "", 30)
    assert training.reference == training.start
    assert training.inputs == (selected.output,)


def test_with_seed_data_the_model_is_trained_from_m1(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**alone(data={**SEED_EXAMPLES, "preferences": own()}, evaluation=None)))
    assert [(model.id, model.parent) for model in plan.models] == [
        ("M0", None),
        ("M1", "M0"),
        ("M2/own-preferences", "M1"),
    ]
    training = steps_of(plan, Train)["seed-0/own-preferences/M2/checkpoint"]
    assert training.start.checkpoint == "seed-0/M1/checkpoint"
    assert training.reference == training.start


@pytest.mark.parametrize(("reference", "id"), [("previous", "M1"), ("M1", "M1"), ("M0", "M0")])
def test_the_reference_keeps_its_meaning(make_recipe: Make, reference: str, id: str) -> None:
    changes = alone(data={**SEED_EXAMPLES, "preferences": own()}, evaluation=None, reference=reference)
    training = steps_of(make_plan(make_recipe(**changes)), Train)["seed-0/own-preferences/M2/checkpoint"]
    assert (training.start.id, known(training.reference).id) == ("M1", id)


def test_every_seed_draws_its_own_pairs(make_recipe: Make) -> None:
    selected = steps_of(make_plan(make_recipe(**alone(seeds=[0, 3]))), SelectPreferences)
    assert [(path, step.seed) for path, step in selected.items()] == [
        ("seed-0/own-preferences/M2/preferences.jsonl", 0),
        ("seed-3/own-preferences/M2/preferences.jsonl", 3),
    ]


def test_beside_other_pipelines_it_trains_once_in_the_first_round(make_recipe: Make) -> None:
    pipelines = {"self-reward": None, "own-preferences": None}
    plan = make_plan(make_recipe(**beside(pipelines=pipelines, controls={}, iterations=2)))
    assert [model.id for model in plan.models] == ["M0", "M1", "M2/self-reward", "M2/own-preferences", "M3/self-reward"]
    assert not steps_of(plan, JoinPairs)


def test_the_users_pairs_join_those_of_each_round_of_the_named_pipelines(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**beside("self-reward", controls={})))
    joined, trainings = steps_of(plan, JoinPairs), steps_of(plan, Train)
    assert {path: (step.parts, step.count) for path, step in joined.items()} == {
        f"seed-0/self-reward/M{number}/preferences-joined.jsonl": (
            ("seed-0/own-preferences.jsonl", f"seed-0/self-reward/M{number}/preferences.jsonl"),
            70,
        )
        for number in (2, 3)
    }
    third = trainings["seed-0/self-reward/M3/checkpoint"]
    assert (third.examples, third.count) == ("seed-0/self-reward/M3/preferences-joined.jsonl", 70)
    other = trainings["seed-0/teacher-reward/M3/checkpoint"]
    assert (other.examples, other.count) == ("seed-0/teacher-reward/M3/preferences.jsonl", 40)


def test_with_the_pairs_of_all_rounds_the_users_pairs_are_joined_once(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**beside("self-reward", controls={}, preferences="all")))
    last = steps_of(plan, JoinPairs)["seed-0/self-reward/M3/preferences-joined.jsonl"]
    assert last.parts == (
        "seed-0/own-preferences.jsonl",
        "seed-0/self-reward/M2/preferences.jsonl",
        "seed-0/self-reward/M3/preferences.jsonl",
    )
    assert last.count == 30 + 2 * 40 == steps_of(plan, Train)["seed-0/self-reward/M3/checkpoint"].count


def test_a_pipeline_that_joins_shares_the_pairs_of_own_preferences(make_recipe: Make) -> None:
    pipelines = {"self-reward": None, "own-preferences": None}
    plan = make_plan(make_recipe(**beside("self-reward", pipelines=pipelines, controls={}, iterations=1)))
    [path] = steps_of(plan, SelectPreferences)
    assert path == "seed-0/own-preferences/M2/preferences.jsonl"
    [joined] = steps_of(plan, JoinPairs).values()
    assert joined.parts == (path, "seed-0/self-reward/M2/preferences.jsonl")


def test_every_step_finds_its_inputs_before_it(make_recipe: Make) -> None:
    pipelines = {"self-reward": None, "own-preferences": None, "teacher-demonstration": None}
    recipes = [alone(), beside("teacher-demonstration"), beside("self-reward", pipelines=pipelines, seeds=[0, 3])]
    for changes in recipes:
        seen: set[str] = set()
        for step in make_plan(make_recipe(**changes)).steps:
            assert set(step.inputs) <= seen, step.output
            assert step.output not in seen
            seen.add(step.output)


def test_a_control_of_a_pipeline_with_joined_pairs_differs_in_one_thing(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**beside("self-reward", "teacher-demonstration")))
    drawn = steps_of(plan, MakePairs)["seed-0/random-pairs/M2/preferences.jsonl"]
    assert drawn.like == "seed-0/self-reward/M2/preferences.jsonl"
    joined = steps_of(plan, JoinPairs)["seed-0/random-pairs/M2/preferences-joined.jsonl"]
    assert joined.parts == ("seed-0/own-preferences.jsonl", drawn.output)
    examples = steps_of(plan, ChosenExamples)["seed-0/sft-on-chosen/M2/examples.jsonl"]
    assert examples.preferences == "seed-0/teacher-demonstration/M2/preferences-joined.jsonl"
    assert examples.count == 70
    assert steps_of(plan, Train)["seed-0/sft-on-chosen/M2/checkpoint"].count == 70 * 3


def test_sft_on_chosen_mirrors_own_preferences_from_the_base_model(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(**alone(controls={"sft-on-chosen": {"mirrors": "own-preferences"}})))
    training = steps_of(plan, Train)["seed-0/sft-on-chosen/M2/checkpoint"]
    assert (training.start.id, training.reference, training.count) == ("M0", None, 30 * 3)
    [examples] = steps_of(plan, ChosenExamples).values()
    assert (examples.preferences, examples.count) == ("seed-0/own-preferences/M2/preferences.jsonl", 30)


def test_training_on_given_pairs_needs_no_judge_and_no_sampling(make_recipe: Make) -> None:
    assert roles_needed(make_recipe(**alone(evaluation=None))) == {"student": {"train_step"}}
    assert "generate_candidates" in roles_needed(make_recipe(**alone()))["student"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a"), row("b", "same", "same ")], "pairs.jsonl, line 2: chosen and rejected are the same text"),
        ([row("a", chosen=" ")], "pairs.jsonl, line 1: `chosen` is empty"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], "pairs.jsonl, line 1: `prompt` must be a list of messages"),
        ([], "pairs.jsonl: empty; at least one row is needed"),
        ([row("a"), row("a")], "2 different rows are needed, but there are only 1; lower the count"),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_found_before_anything_runs(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    preferences = {"source": file_of(tmp_path, *rows), "count": max(1, len(rows))}
    with pytest.raises(InputError) as caught:
        checked_plan(make_recipe(**alone(data={"preferences": preferences})), numbers_registry)
    assert str(caught.value).startswith("data.preferences: ")
    assert message in str(caught.value)


def test_pairs_that_all_contain_an_evaluation_prompt_are_an_error(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    preferences = {"source": file_of(tmp_path, row("say 5001"), row("Why?", "say 5002")), "count": 2}
    evaluation = {"prompts": {"source": "numbers/held-out"}, "rubric": "numbers/numbers"}
    with pytest.raises(InputError, match=r"every pair contains an evaluation prompt; see data\.decontaminate"):
        checked_plan(make_recipe(**alone(data={"preferences": preferences}, evaluation=evaluation)), numbers_registry)


def test_a_missing_count_is_named_with_the_number_of_pairs(
    make_recipe: Make, numbers_registry: Registry, tmp_path: Path
) -> None:
    preferences = {"source": file_of(tmp_path, row("a"), row("b"), row("a"))}
    with pytest.raises(InputError, match=r"data\.preferences: count is missing; .*pairs\.jsonl has 2 different ones"):
        checked_plan(make_recipe(**alone(data={"preferences": preferences})), numbers_registry)


def test_a_set_that_the_plugin_does_not_offer_is_named(make_recipe: Make, numbers_registry: Registry) -> None:
    preferences = {"source": "numbers/pair", "count": 3}
    with pytest.raises(InputError, match="no preference set 'numbers/pair'; did you mean 'numbers/pairs'"):
        checked_plan(make_recipe(**alone(data={"preferences": preferences})), numbers_registry)
