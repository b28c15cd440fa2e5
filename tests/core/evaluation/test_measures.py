"""Figures of measures: means over units, coverage, and differences that are paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.measures import SeedMeasurement, measure_difference, measure_metrics, observations
from tutelage.evaluation.scores import graded, score_differences, score_metrics
from tutelage.evaluation.significance import Observation, compare
from tutelage.measure import Measurement
from tutelage.records import Candidate

SHARES = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
OTHERS = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]


def measured(values: Sequence[float | None], seed: int = 0) -> list[SeedMeasurement]:
    return [SeedMeasurement(Measurement(value, prompt_id=f"p{number}"), seed) for number, value in enumerate(values)]


def test_a_share_has_the_figure_and_the_interval_of_the_share_of_top_scores() -> None:
    """Equal values must have equal intervals, whether the evaluator or a measure gives them."""
    answers = [Candidate(f"p{number}", 0, "x") for number in range(len(SHARES))]
    gold = graded(answers, {answer.id: 5.0 * share for answer, share in zip(answers, SHARES, strict=True)})
    figure, coverage = measure_metrics(measured(SHARES), is_share=True)
    assert figure == score_metrics(gold)["gold_exact"]
    assert (coverage.value, coverage.n) == (1.0, 12)
    others = graded(answers, {answer.id: 5.0 * share for answer, share in zip(answers, OTHERS, strict=True)})
    difference = measure_difference(measured(SHARES), measured(OTHERS))
    assert difference == score_differences(gold, others)["gold_exact"]


def test_a_number_has_the_interval_of_a_mean() -> None:
    figure, _ = measure_metrics(measured([10.0 * share for share in SHARES]), is_share=False)
    answers = [Candidate(f"p{number}", 0, "word " * int(10 * share)) for number, share in enumerate(SHARES)]
    assert figure == score_metrics(graded(answers, {}))["answer_words"]


def test_a_prompt_counts_as_many_times_as_it_has_units() -> None:
    """IFEval's instruction-level accuracy: of 4 checked instructions 3 are followed, and one cannot be checked."""
    values = [
        SeedMeasurement(Measurement(1.0, 1, prompt_id="p")),
        SeedMeasurement(Measurement(2 / 3, 3, unmeasured=1, prompt_id="q")),
        SeedMeasurement(Measurement(None, 2, prompt_id="r")),
    ]
    figure, coverage = measure_metrics(values, is_share=True)
    assert (figure.value, figure.n) == (0.75, 4)
    assert coverage.value == pytest.approx(4 / 7) and coverage.n == 7


def test_without_a_value_there_is_no_figure() -> None:
    figure, coverage = measure_metrics(measured([None, None]), is_share=False)
    assert figure == Metric(None, None, None, 0)
    assert (coverage.value, coverage.n) == (0.0, 2)
    assert measure_difference(measured([None]), measured([1.0])) == Metric(None, None, None, 0)


def test_a_difference_uses_the_prompts_that_both_models_have() -> None:
    left, right = measured([1.0, 3.0, None, 9.0]), measured([0.0, 1.0, 5.0])
    difference = measure_difference(left, right)
    assert (difference.value, difference.n) == (1.5, 2)


def test_a_comparison_weights_prompts_as_the_difference_does() -> None:
    weights = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0]
    sides = [
        [
            SeedMeasurement(Measurement(value, weight, prompt_id=f"p{number}"))
            for number, (value, weight) in enumerate(zip(values, weights, strict=False))
        ]
        for values in (SHARES, OTHERS)
    ]
    left, right = map(list, map(observations, sides))
    found = compare(left, right)
    assert found.difference == measure_difference(sides[0], sides[1])
    weighted = sum(w * (a - b) for w, a, b in zip(weights, SHARES, OTHERS, strict=False)) / sum(weights)
    assert found.difference.value == pytest.approx(weighted)
    assert found.standard_error is not None


def test_equal_weights_compare_as_no_weights_do() -> None:
    plain = [[Observation(f"p{number}", value) for number, value in enumerate(side)] for side in (SHARES, OTHERS)]
    weighted = [[Observation(one.prompt_id, one.value, 0, 7.0) for one in side] for side in plain]
    assert compare(plain[0], plain[1]) == compare(weighted[0], weighted[1])


def test_values_that_do_not_exist_are_no_observations() -> None:
    assert list(observations(measured([None, 2.0], seed=3))) == [Observation("p1", 2.0, 3)]
