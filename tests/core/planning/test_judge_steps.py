"""The plan of juries, cascades and win rates: steps, counts, roles, problems and notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tutelage_openai
from tutelage.errors import InputError
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import CombineStep, JudgeStep, SampleStep, TrainStep
from tutelage.planning.checks import checked_plan
from tutelage.planning.estimate import estimates
from tutelage.planning.judge_steps import CombineScores, CompareCandidates, MakeWinRates, SelectDisputed
from tutelage.planning.pipelines import make_plan, roles_needed
from tutelage.planning.steps import Judge, Plan
from tutelage.planning.unused_keys import unused_keys
from tutelage.plugins.pipeline_checks import pipeline_problems
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import from_values, to_values
from tutelage.recipe.schema import Recipe

Make = Callable[..., Recipe]
JURY = {name: {"plugin": "numbers"} for name in ("ann", "bob", "cy")}
MODELS = {"student": {"plugin": "numbers", "model": "numbers/novice"}, "evaluator": {"plugin": "numbers"}}


def of(pipeline: str, **changes: Any) -> dict[str, Any]:
    models = {**MODELS, **changes.pop("models", {"teacher": {"plugin": "numbers"}})}
    judging = {"rubric": "numbers/numbers", "samples": 2, "temperature": 0.7, **changes.pop("judging", {})}
    small = {"pipelines": {pipeline: None}, "controls": {}, "iterations": 1, "evaluation": None}
    return {**small, "models": models, "judging": judging, **changes}


def steps_of(plan: Plan, name: str) -> list[Any]:
    folder = f"seed-0/{name}/M2/"
    return [step for step in plan.steps if step.output.startswith(folder)]


def test_each_judge_of_a_jury_has_a_step_and_an_artifact_of_its_own(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    recipe = make_recipe(**of("teacher-reward", models={"judges": JURY}, judging={"jury": "median"}))
    *judges, combined, _pairs, _training = steps_of(checked_plan(recipe, numbers_registry), "teacher-reward")
    assert [type(step) for step in judges] == [Judge] * 3
    folder = "seed-0/teacher-reward/M2"
    assert [step.output for step in judges] == [f"{folder}/judgements.{name}.jsonl" for name in JURY]
    assert [step.worker.role for step in judges] == ["judges.ann", "judges.bob", "judges.cy"]
    assert {step.count for step in judges} == {40 * 4 * 2}
    assert combined == CombineScores(
        output=f"{folder}/judgements.jsonl", count=160, seed=0, parts=tuple(s.output for s in judges), how="median"
    )
    assert roles_needed(recipe).keys() == {"student", "judges.ann", "judges.bob", "judges.cy"}


def test_a_jury_is_part_of_the_recipe_that_a_run_stores(make_recipe: Make) -> None:
    recipe = make_recipe(**of("teacher-reward", models={"judges": JURY}))
    assert from_values(to_values(recipe)) == recipe


def test_a_cascade_plans_at_most_the_share_of_answers_for_the_judge(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    recipe = make_recipe(**of("cascade", judging={"dispute_share": 0.25, "dispute_spread": 1.5}))
    own, select, second, combined, *_ = steps_of(checked_plan(recipe, numbers_registry), "cascade")
    assert (type(own), own.worker.role, own.count) == (Judge, "student", 320)
    assert isinstance(select, SelectDisputed)
    assert (select.count, select.spread, select.share) == (40, 1.5, 0.25)
    assert (type(second), second.worker.role, second.answers, second.count) == (Judge, "judge", select.output, 40)
    assert isinstance(combined, CombineScores)
    assert (combined.parts, combined.how) == ((second.output, own.output), "first")


def test_a_cascade_can_ask_a_jury(make_recipe: Make, numbers_registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of("cascade", models={"judges": JURY})), numbers_registry)
    names = [step.output.rpartition("/")[2] for step in steps_of(plan, "cascade")]
    assert names[2:6] == [f"second-judgements{part}.jsonl" for part in (".ann", ".bob", ".cy", "")]


def test_win_rates_plan_both_orders_of_every_two_candidates(make_recipe: Make, numbers_registry: Registry) -> None:
    recipe = make_recipe(**of("win-rate"))
    compare, rates, *_ = steps_of(checked_plan(recipe, numbers_registry), "win-rate")
    assert isinstance(compare, CompareCandidates)
    assert (compare.count, compare.worker.role, compare.rubric) == (40 * 4 * 3, "judge", "pairwise")
    assert isinstance(rates, MakeWinRates)
    assert (rates.count, rates.verdicts) == (160, compare.output)
    assert compare.output == "seed-0/win-rate/M2/judgements.verdicts.jsonl"
    assert roles_needed(recipe)["judge"] == {"evaluate"}


@pytest.mark.parametrize(
    ("pipeline", "changes", "problem"),
    [
        (
            "teacher-reward",
            {"models": {"judges": JURY, "judge": {"plugin": "numbers"}}},
            "models.judges: models.judge is bound as well; the jury judges in its place, so leave one of them out",
        ),
        (
            "teacher-reward",
            {"models": {"judges": {"Ann/1": {"plugin": "numbers"}}}},
            "models.judges: 'Ann/1' is no name of a judge: use small letters, digits and hyphens",
        ),
        (
            "teacher-reward",
            {"models": {"judges": {"ann": {"plugin": "nowhere"}}}},
            "models.judges.ann.plugin: no plugin 'nowhere' is installed",
        ),
        (
            "teacher-reward",
            {"models": {"judges": {"ann": {"plugin": "numbers", "settings": {"x": 1}}}}},
            "models.judges.ann.settings",
        ),
        ("win-rate", {"models": {"judges": JURY}}, "models.judges: a jury cannot compare answers, and win-rate"),
        ("win-rate", {"judging": {"pairwise_rubric": "pairwise2"}}, "judging.pairwise_rubric: no rubric"),
        ("cascade", {"judging": {"samples": 1}}, "cascade needs samples that can disagree: set samples to at least 2"),
        ("cascade", {"judging": {"temperature": 0.0}}, "cascade needs samples that can disagree"),
        ("cascade", {"judging": {"dispute_share": 0.0}}, "judging.dispute_share: 0; must be above 0 and at most 1"),
        ("cascade", {"judging": {"dispute_spread": -1.0}}, "judging.dispute_spread: -1; must be a number of at least"),
    ],
)
def test_what_cannot_work_is_found_before_the_run(
    pipeline: str, changes: dict[str, Any], problem: str, make_recipe: Make, numbers_registry: Registry
) -> None:
    with pytest.raises(InputError) as error:
        checked_plan(make_recipe(**of(pipeline, **changes)), numbers_registry)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("pipeline", "changes", "keys"),
    [
        ("self-reward", {"models": {"judges": JURY}}, ["models.judges"]),
        ("teacher-reward", {"models": {"judges": JURY}, "judging": {"jury": "minimum"}}, []),
        ("teacher-reward", {"judging": {"jury": "minimum"}}, ["judging.jury"]),
        ("teacher-reward", {"judging": {"dispute_spread": 1.0}}, ["judging.dispute_spread"]),
        ("cascade", {"judging": {"dispute_spread": 1.0, "dispute_share": 0.5}}, []),
        ("cascade", {"judging": {"pairwise_rubric": "numbers/numbers"}}, ["judging.pairwise_rubric"]),
    ],
)
def test_a_key_without_an_effect_is_a_notice(
    pipeline: str, changes: dict[str, Any], keys: list[str], make_recipe: Make
) -> None:
    notices = list(unused_keys(make_recipe(**of(pipeline, **changes))))
    assert [line.partition(":")[0] for line in notices] == keys


def test_a_declared_combination_is_checked() -> None:
    steps = (SampleStep("c"), JudgeStep("one", "c"), CombineStep("all", ("one", "two"), how="best"), TrainStep("all"))  # type: ignore[arg-type]
    problems = list(pipeline_problems(Pipeline("Wrong.", steps)))
    assert "CombineStep 'all': how is 'best'" in problems[0]
    assert problems[1].startswith("CombineStep 'all' reads 'two', which no step makes")
    empty = (SampleStep("c"), CombineStep("all", ()), TrainStep("all"))
    assert "CombineStep 'all': judgements must be a tuple with at least one name" in "\n".join(
        pipeline_problems(Pipeline("Empty.", empty))
    )


def test_plans_without_the_new_keys_have_no_new_steps(make_recipe: Make) -> None:
    kinds = {type(step) for step in make_plan(make_recipe()).steps}
    assert not kinds & {CombineScores, SelectDisputed, CompareCandidates, MakeWinRates}


def test_a_checklist_is_one_request_per_prompt_for_the_teacher(make_recipe: Make, numbers_registry: Registry) -> None:
    plan = checked_plan(make_recipe(**of("checklist")), numbers_registry)
    counts = {step.output.rpartition("/")[2]: step.count for step in steps_of(plan, "checklist")}
    asked = {"checklist-requests.jsonl": 40, "checklists.jsonl": 40, "checked-prompts.jsonl": 40}
    assert counts.items() >= {**asked, "judgements.jsonl": 320}.items()
    assert roles_needed(make_recipe(**of("checklist")))["teacher"] == {"generate_candidates"}


def test_a_rubric_that_shows_metadata_is_not_for_judging_examples(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    with pytest.raises(
        InputError, match=r"judging.rubric: rubric 'checklist' shows metadata \(checklist\), which rows"
    ):
        checked_plan(make_recipe(**of("self-reward", judging={"rubric": "checklist"})), numbers_registry)


def test_the_plan_has_the_calls_and_the_cost_of_each_judge_and_of_comparisons(
    make_recipe: Make, numbers_registry: Registry
) -> None:
    numbers_registry.register(tutelage_openai, "openai")

    def service(price: float) -> dict[str, Any]:
        return {"plugin": "openai", "model": f"m-{price:g}", "settings": {"price": {"input": price, "output": price}}}

    def estimated(pipeline: str, **changes: Any) -> dict[tuple[str, str], tuple[int, float | None]]:
        recipe = make_recipe(**of(pipeline, **changes))
        plan = make_plan(recipe)
        found = estimates(plan, recipe, numbers_registry)
        return {(one.stage, one.role): (one.calls, one.cost) for one in found}

    jury = estimated("teacher-reward", models={"judges": {"ann": service(1), "bob": service(2)}})
    assert {key: calls for key, (calls, _) in jury.items()} == {
        ("judge", "judges.ann"): 320,
        ("judge", "judges.bob"): 320,
    }
    assert jury["judge", "judges.bob"][1] == pytest.approx(2 * (jury["judge", "judges.ann"][1] or 0.0))
    shared = {"dispute_share": 0.25}
    assert estimated("cascade", models={"judge": service(1)}, judging=shared)["judge", "judge"][0] == 40
    assert estimated("win-rate", models={"judge": service(1)})["evaluate", "judge"][0] == 480
    both = estimated("checklist", models={"teacher": service(1)})
    assert {key: calls for key, (calls, _) in both.items()} == {("generate", "teacher"): 40, ("judge", "judge"): 320}
