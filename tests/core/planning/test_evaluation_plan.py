"""The steps of the evaluation: which answers are made, which are judged by whom, and which models are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from attrs import evolve
from known import known
from recipes import numbers_recipe

from tutelage.planning.evaluation_plan import EVALUATOR, EvaluationPlan, comparison_id
from tutelage.planning.pipelines import make_plan
from tutelage.planning.steps import Compare, Judge, MixAnswers, Sample, SelectPrompts, Step
from tutelage.recipe.schema import Recipe
from tutelage.records import Sampling

StepT = TypeVar("StepT", bound=Step)
MakeRecipe = Callable[..., Recipe]
ONE = {"pipelines": {"self-reward": None}, "controls": {}, "iterations": 1}
"""M0, M1 and M2/self-reward."""


@pytest.fixture
def make(make_recipe: MakeRecipe) -> Callable[..., EvaluationPlan]:
    """Makes the evaluation plan of seed 3; keyword arguments replace keys of the evaluation."""

    def make(**changes: object) -> EvaluationPlan:
        evaluation = {**numbers_recipe()["evaluation"], **changes}
        recipe = make_recipe(seeds=[3], **{**ONE, "evaluation": evaluation})
        return EvaluationPlan(recipe, 3, make_plan(recipe).models_of(3))

    return make


def steps_of(plan: EvaluationPlan, kind: type[StepT]) -> list[StepT]:
    return [step for step in plan.steps() if isinstance(step, kind)]


def test_without_an_evaluation_there_are_no_steps(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(**ONE, evaluation=None)
    plan = EvaluationPlan(recipe, 0, make_plan(recipe).models_of(0))
    assert list(plan.steps()) == []
    assert not plan.judges_measured


def test_the_held_out_prompts_are_the_first_ones_of_their_source(make: Callable[..., EvaluationPlan]) -> None:
    (step,) = steps_of(make(), SelectPrompts)
    assert (step.output, step.source, step.skip, step.take) == (
        "evaluation/seed-3/prompts.jsonl",
        "numbers/held-out",
        0,
        30,
    )
    assert (step.count, step.seed) == (30, 3)


def test_every_model_gives_one_greedy_answer_and_some_sampled_ones_to_each_prompt(
    make: Callable[..., EvaluationPlan],
) -> None:
    plan = make(temperature=0.7, top_p=0.8, max_new_tokens=99)
    steps = steps_of(plan, Sample)
    assert [(step.output, step.n, step.count) for step in steps] == [
        (f"seed-3/{folder}/samples/held-out-{decoding}.jsonl", n, 30 * n)
        for folder in ("M0", "M1", "self-reward/M2")
        for decoding, n in (("greedy", 1), ("sampled", 4))
    ]
    assert [step.sampling for step in steps[:2]] == [Sampling(0.0, 1.0, 99), Sampling(0.7, 0.8, 99)]
    assert {step.prompts for step in steps} == {plan.files.prompts}
    assert [step.worker.checkpoint for step in steps[::2]] == [
        "",
        "seed-3/M1/checkpoint",
        "seed-3/self-reward/M2/checkpoint",
    ]
    assert {step.n for step in steps_of(make(sampled=0), Sample)} == {1}


def test_the_evaluator_scores_every_answer_once_and_greedily(make: Callable[..., EvaluationPlan]) -> None:
    plan = make(judgement_tokens=77)
    steps = [step for step in steps_of(plan, Judge) if step.worker == EVALUATOR]
    assert [(step.answers, step.count) for step in steps] == [(one.output, one.count) for one in steps_of(plan, Sample)]
    assert steps[0].output == "evaluation/seed-3/M0/gold-greedy.jsonl"
    for step in steps:
        assert (step.samples, step.take, step.rubric, step.seed) == (1, None, "numbers/numbers", 3)
        assert (step.sampling, step.prompts) == (Sampling(0.0, 1.0, 77), plan.files.prompts)


def test_every_model_judges_its_own_answers_and_the_mixed_ones_as_in_self_reward(
    make: Callable[..., EvaluationPlan],
) -> None:
    plan = make(agreement_prompts=5)
    own = [step for step in steps_of(plan, Judge) if step.worker != EVALUATOR]
    (mixed,) = steps_of(plan, MixAnswers)
    assert Counter(step.worker.checkpoint for step in own) == {
        "": 2,
        "seed-3/M1/checkpoint": 2,
        "seed-3/self-reward/M2/checkpoint": 2,
    }
    for step in own:
        assert (step.samples, step.count, step.take, step.seed) == (2, 5 * 4 * 2, 5, 3)
        assert (step.rubric, step.sampling) == ("numbers/numbers", plan.recipe.judging.sampling("parsed"))
    assert [step.answers for step in own[:3]] == [
        f"seed-3/{folder}/samples/held-out-sampled.jsonl" for folder in ("M0", "M1", "self-reward/M2")
    ]
    assert {step.answers for step in own[3:]} == {mixed.output} == {"evaluation/seed-3/mixed.jsonl"}
    assert (mixed.count, mixed.take, mixed.n, mixed.seed) == (5 * 4, 5, 4, 3)
    assert list(mixed.answers) == ["M0", "M1", "M2/self-reward"]
    assert mixed.answers["M1"] == "seed-3/M1/samples/held-out-sampled.jsonl"


def test_the_mixed_set_has_at_most_four_answers_per_prompt(make: Callable[..., EvaluationPlan]) -> None:
    assert [known(steps_of(make(sampled=n), MixAnswers)[0]).n for n in (2, 4, 9)] == [2, 4, 4]


@pytest.mark.parametrize(
    ("changes", "measured"),
    [({"sampled": 2}, True), ({"sampled": 1}, False), ({"sampled": 0}, False), ({"agreement_prompts": 0}, False)],
)
def test_judging_is_measured_only_on_several_answers_per_prompt(
    changes: dict[str, int], measured: bool, make: Callable[..., EvaluationPlan]
) -> None:
    plan = make(**changes)
    assert plan.judges_measured is measured
    assert bool(steps_of(plan, MixAnswers)) is measured
    assert any(step.worker != EVALUATOR for step in steps_of(plan, Judge)) is measured


def test_expected_scores_are_measured_beside_the_parsed_ones(make: Callable[..., EvaluationPlan]) -> None:
    plan = make()
    expected = evolve(plan.recipe, judging=evolve(plan.recipe.judging, score="expected"))
    assert plan.own_scores == ("parsed",)
    assert evolve(plan, recipe=expected).own_scores == ("parsed", "expected")
    own = [step for step in steps_of(evolve(plan, recipe=expected), Judge) if step.worker != EVALUATOR]
    assert [step.score for step in own] == ["parsed", "expected"] * 6


def test_a_source_without_a_count_has_as_many_prompts_as_rows_and_0_if_they_are_not_known(
    make: Callable[..., EvaluationPlan],
) -> None:
    plan = make(prompts={"source": "numbers/held-out"}, agreement_prompts=20)
    evaluation = known(plan.recipe.evaluation)
    counts = [
        (known_rows.prompt_count(evaluation), known_rows.judged_prompts(evaluation))
        for known_rows in (plan, evolve(plan, rows=50), evolve(plan, rows=10))
    ]
    assert counts == [(0, 20), (50, 20), (10, 10)]
    assert steps_of(evolve(plan, rows=10), SelectPrompts)[0].take is None


def test_of_two_compared_models_the_later_one_is_first(make: Callable[..., EvaluationPlan]) -> None:
    (step,) = steps_of(make(compare="all", judgement_tokens=77), Compare)
    assert step.pairs == (("M1", "M0"), ("M2/self-reward", "M0"), ("M2/self-reward", "M1"))
    assert (step.output, step.count, step.seed) == ("evaluation/seed-3/verdicts.jsonl", 2 * 3 * 30, 3)
    assert (step.worker, step.sampling) == (EVALUATOR, Sampling(0.0, 1.0, 77))
    assert step.rubric == "pairwise"
    assert step.answers["M2/self-reward"] == "seed-3/self-reward/M2/samples/held-out-greedy.jsonl"
    (step,) = steps_of(make(compare="parent"), Compare)
    assert step.pairs == (("M1", "M0"), ("M2/self-reward", "M1"))
    assert comparison_id("M1", "M0", "p") == "M1|M0|p"
