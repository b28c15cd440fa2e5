"""The trainings and the data of a model, for every form of lineage that a recipe can give it."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.exporting.lineage import data_steps, trainings
from tutelage.planning.pipelines import make_plan
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]


def test_a_line_goes_back_to_the_first_model(make_recipe: Make) -> None:
    plan = make_plan(make_recipe())
    assert [step.model for step in trainings(plan, 0, "M3/self-reward")] == ["M1", "M2/self-reward", "M3/self-reward"]
    assert [step.model for step in trainings(plan, 0, "M2/random-pairs")] == ["M1", "M2/random-pairs"]
    assert trainings(plan, 0, "M0") == []


def test_a_round_that_starts_from_m1_again_has_no_second_model_in_its_line(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(start="M1"))
    assert [step.model for step in trainings(plan, 0, "M3/self-reward")] == ["M1", "M3/self-reward"]


def test_the_data_of_a_line_is_everything_that_it_learned_from(make_recipe: Make) -> None:
    plan = make_plan(make_recipe())
    steps = data_steps(plan, trainings(plan, 0, "M3/self-reward"))
    assert [step.output.removeprefix("seed-0/") for step in steps] == [
        "M1/examples.jsonl",
        "M1/samples/prompts.jsonl",
        "M1/samples/candidates.jsonl",
        "self-reward/M2/judgements.jsonl",
        "self-reward/M2/preferences.jsonl",
        "self-reward/M2/samples/prompts.jsonl",
        "self-reward/M2/samples/candidates.jsonl",
        "self-reward/M3/judgements.jsonl",
        "self-reward/M3/preferences.jsonl",
    ]


def test_pairs_of_all_rounds_bring_every_rounds_data(make_recipe: Make) -> None:
    plan = make_plan(make_recipe(start="M1", preferences="all"))
    outputs = [step.output for step in data_steps(plan, trainings(plan, 0, "M3/self-reward"))]
    assert "seed-0/self-reward/M2/preferences.jsonl" in outputs
    assert "seed-0/self-reward/M3/preferences-of-all-rounds.jsonl" in outputs
