"""The estimate of the remaining time, replayed on the recorded steps of real runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tutelage.cli.forecast import Forecast
from tutelage.objectives import Dpo, Objective, Sft
from tutelage.planning.pipelines import make_plan
from tutelage.planning.steps import BuildExamples, Compare, Judge, Sample, Step, Train, Worker
from tutelage.recipe.loading import load_recipe
from tutelage.records import Sampling

RECORDED = json.loads((Path(__file__).parents[2] / "fixtures/recorded-runs.json").read_text(encoding="utf-8"))["runs"]
STEADY = [run["name"] for run in RECORDED if "slower" not in run["name"]]
SLOWED = next(run["name"] for run in RECORDED if "slower" in run["name"])
STUDENT, EVALUATOR = Worker("student", "M1"), Worker("evaluator", "evaluator")
START_SECONDS = 9.0
"""Time to import and start the training library, as in the first training of the recorded runs."""


@cache
def recorded(name: str) -> tuple[tuple[Step, float], ...]:
    """The steps of a recorded run with their seconds, in the order of the plan."""
    run = next(run for run in RECORDED if run["name"] == name)
    plan = make_plan(load_recipe(run["recipe"]))
    return tuple((step, run["seconds"][step.output]) for step in plan.steps if step.output in run["seconds"])


def replayed(
    steps: list[tuple[Step, float]], earlier: Iterable[tuple[Step, float]] = ()
) -> list[tuple[int, float, float | None]]:
    """Return (number of finished steps, true remaining seconds, estimate) after each step of a process."""
    forecast, found = Forecast(), []
    for step, seconds in earlier:
        forecast.earlier(step, seconds)
    for number, (step, seconds) in enumerate(steps, 1):
        forecast.finished(step, seconds)
        rest = steps[number:]
        found.append((number, sum(each for _, each in rest), forecast.left([each for each, _ in rest])))
    return found


def outside(found: list[tuple[int, float, float | None]], factor: float = 2.0) -> list[tuple[int, float, float | None]]:
    """Return the estimates that are missing, or wrong by more than the factor and by more than a second."""
    return [
        (number, true, estimate)
        for number, true, estimate in found
        if estimate is None or (not true / factor <= estimate <= true * factor and abs(estimate - true) > 1)
    ]


def test_the_recordings_are_whole_runs() -> None:
    assert [len(recorded(run["name"])) for run in RECORDED] == [len(run["seconds"]) for run in RECORDED]
    assert {len(recorded(name)) for name in STEADY} == {96, 13}


@pytest.mark.parametrize("name", STEADY)
def test_from_the_tenth_step_on_the_estimate_is_within_a_factor_of_two(name: str) -> None:
    found = replayed(list(recorded(name)))[9:]
    assert len(found) > 3
    assert outside(found) == []


@pytest.mark.parametrize("name", [name for name in STEADY if len(recorded(name)) > 90])
@pytest.mark.parametrize("done", [5, 10, 15, 20, 30, 40])
@pytest.mark.parametrize("speed", [1.0, 5.0])
def test_a_process_that_continues_a_run_estimates_as_well(name: str, done: int, speed: float) -> None:
    """The earlier process ran on a machine of another speed."""
    earlier = [(step, seconds / speed) for step, seconds in recorded(name)[:done]]
    steps, started = list(recorded(name))[done:], False
    for index, (step, seconds) in enumerate(steps):
        if isinstance(step, Train) and not started:
            steps[index], started = (step, seconds + START_SECONDS), True
    assert outside(replayed(steps, earlier)[9:]) == []


def test_steps_of_an_earlier_process_are_no_estimate_by_themselves() -> None:
    forecast = Forecast()
    forecast.earlier(sample(100), 10.0)
    forecast.earlier(judge(100, EVALUATOR), 1.0)
    assert forecast.left([sample(100)]) is None
    forecast.finished(train(100), 5.0)
    assert forecast.left([judge(100, EVALUATOR)]) is None  # nothing that both processes have measured
    forecast.finished(sample(200), 80.0)
    assert forecast.left([judge(100, EVALUATOR)]) == pytest.approx(4.0)  # four times slower than the earlier one


def test_the_estimate_follows_a_machine_that_becomes_slower() -> None:
    found = replayed(list(recorded(SLOWED)))
    assert outside(found[9:31]) == []
    assert outside(found[56:57]) != []  # the slower steps are still to come
    assert outside(found[59:]) == []


@pytest.mark.parametrize("name", [run["name"] for run in RECORDED])
def test_no_estimate_appears_before_each_kind_of_work_that_is_left_was_measured(name: str) -> None:
    found = replayed(list(recorded(name)))
    shown = [number for number, _, estimate in found if estimate is not None]
    assert shown == list(range(shown[0], len(found) + 1))  # once it is there, it stays
    assert shown[0] > 2  # the examples and the first training say nothing about answers
    first = found[shown[0] - 1]
    assert outside([first], factor=2.5) == []


def sample(count: int, worker: Worker = STUDENT) -> Step:
    return Sample(output="c", count=count, worker=worker, prompts="p", n=1, sampling=Sampling())


def judge(count: int, worker: Worker = STUDENT) -> Step:
    texts: dict[str, Any] = {"prompts": "p", "answers": "a", "rubric": "r"}
    return Judge(output="j", count=count, worker=worker, samples=1, sampling=Sampling(), **texts)


def compare(count: int) -> Step:
    return Compare(output="v", count=count, worker=EVALUATOR, pairs=(), prompts="p", rubric="r", sampling=Sampling())


def train(count: int, objective: Objective | None = None) -> Step:
    fields: dict[str, Any] = {"output": "c", "examples": "e", "start": STUDENT, "reference": None, "model": "M1"}
    return Train(count=count, objective=objective or Sft(), **fields)


def test_there_is_no_estimate_before_a_step_has_finished() -> None:
    assert Forecast().left([sample(100)]) is None
    assert Forecast().left([]) == 0


def test_work_on_files_gives_no_estimate_of_other_work() -> None:
    forecast = Forecast()
    forecast.finished(BuildExamples(output="e", count=100), 1.0)
    assert forecast.left([sample(100)]) is None
    assert forecast.left([train(100)]) is None
    assert forecast.left([BuildExamples(output="f", count=50)]) == pytest.approx(0.5)


def test_a_kind_of_work_has_a_time_per_step_and_a_time_per_item() -> None:
    forecast = Forecast()
    forecast.finished(sample(100), 12.0)
    assert forecast.left([sample(50)]) == pytest.approx(6.0)  # one size: in proportion
    for count in (1000, 200, 400):
        forecast.finished(sample(count), 2 + count / 100)
    assert forecast.left([sample(600)]) == pytest.approx(8.0, rel=0.2)
    assert forecast.left([sample(600)] * 3) == pytest.approx(24.0, rel=0.2)


def test_a_kind_that_was_not_measured_has_the_rate_of_its_family_and_other_families_have_none() -> None:
    forecast = Forecast()
    forecast.finished(sample(100), 8.0)
    assert forecast.left([judge(50)]) == pytest.approx(4.0)
    assert forecast.left([train(10)]) is None
    assert forecast.left([judge(50, EVALUATOR)]) is None
    forecast.finished(train(100), 100.0)
    assert forecast.left([train(10, Dpo())]) == pytest.approx(10.0)
    forecast.finished(judge(100, EVALUATOR), 1.0)
    assert forecast.left([compare(300)]) == pytest.approx(3.0)


def test_the_first_step_of_a_kind_counts_little_once_another_has_finished() -> None:
    forecast = Forecast()
    forecast.finished(train(100), 50.0)  # with the start of the training library
    forecast.finished(train(100), 10.0)
    assert known_between(forecast.left([train(100)]), 10.0, 14.0)


def known_between(value: float | None, low: float, high: float) -> bool:
    return value is not None and low <= value <= high


def test_the_pace_of_the_current_step_counts_as_soon_as_it_is_measured() -> None:
    forecast = Forecast()
    assert forecast.current(train(100), elapsed=30.0, share=0.0, whole=None) is None
    assert forecast.left([train(100)]) is None
    assert forecast.current(train(100), elapsed=40.0, share=0.01, whole=200.0) == pytest.approx(198.0)
    assert forecast.left([train(100)]) is None  # one in a hundred is no measurement of the other trainings
    assert forecast.current(train(100), elapsed=130.0, share=0.5, whole=200.0) == pytest.approx(100.0)
    assert forecast.left([train(50)]) == pytest.approx(100.0)


def test_a_step_that_goes_slower_than_those_before_is_believed_more_and_more() -> None:
    forecast = Forecast()
    forecast.finished(sample(100), 10.0)
    assert forecast.current(sample(100), elapsed=0.0, share=0.0, whole=None) == pytest.approx(10.0)
    assert forecast.current(sample(100), elapsed=4.0, share=0.1, whole=40.0) == pytest.approx(0.9 * 22)
    assert forecast.current(sample(100), elapsed=12.0, share=0.3, whole=40.0) == pytest.approx(0.7 * 40)


def test_the_start_of_the_first_training_does_not_count_for_the_later_ones() -> None:
    forecast = Forecast()
    forecast.finished(train(100), 50.0, whole=10.0)
    assert forecast.left([train(200, Dpo())]) == pytest.approx(20.0)
    forecast.finished(train(100), 12.0, whole=9.0)  # no start: the duration counts
    assert known_between(forecast.left([train(100)]), 11.0, 12.0)
