from __future__ import annotations

import pytest

from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.warning_signs import (
    SignLimits,
    drift,
    few_steps,
    frequent_outcomes,
    is_above,
    is_below,
    only_score,
)


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"answered": 80, "cut": 20}, {}),
        ({"answered": 79, "cut": 21}, {"cut": 0.21}),
        ({"answered": 40, "unparsed": 30, "failed": 30}, {"unparsed": 0.3, "failed": 0.3}),
        ({"unparsed": 5}, {"unparsed": 1.0}),
        ({"answered": 5}, {}),
        ({}, {}),
        ({"pairs": 1, "tied": 9}, {}),
        ({"answered": 0, "cut": 0}, {}),
    ],
)
def test_an_outcome_is_reported_from_its_share_on(counts: dict[str, int], found: dict[str, float]) -> None:
    assert frequent_outcomes(counts) == found


def test_the_limits_are_settings() -> None:
    assert frequent_outcomes({"answered": 79, "cut": 21}, SignLimits(share=0.5)) == {}
    assert only_score([3.0, 3.0], SignLimits(scores=2)) == (3.0, 2)
    assert few_steps(160, 16, 1.0, SignLimits(optimizer_steps=11)) == 10


def test_one_score_is_reported_only_if_there_are_enough_scores() -> None:
    assert only_score([3.0] * 20) == (3.0, 20)
    assert only_score([3.0] * 19) is None
    assert only_score([*[3.0] * 19, None]) is None, "an answer without a score is no score"
    assert only_score([*[3.0] * 20, None]) == (3.0, 20)
    assert only_score([*[3.0] * 20, 3.5]) is None
    assert only_score([]) is None


@pytest.mark.parametrize(
    ("pairs", "batch", "epochs", "steps"),
    [
        (160, 16, 1.0, None),
        (144, 16, 1.0, 9),
        (145, 16, 1.0, None),
        (2, 16, 2.0, 2),
        (1, 16, 0.1, 1),
        (80, 16, 2.0, None),
    ],
)
def test_optimizer_steps_count_whole_batches(pairs: int, batch: int, epochs: float, steps: int | None) -> None:
    assert few_steps(pairs, batch, epochs) == steps


@pytest.mark.parametrize(
    ("difference", "below"),
    [
        (Metric(-0.5, -0.9, -0.1, 50), True),
        (Metric(-0.5, -0.9, 0.0, 50), False),
        (Metric(-0.5, -0.9, 0.2, 50), False),
        (Metric(0.5, 0.1, 0.9, 50), False),
        (Metric(None, None, None, 0), False),
        (None, False),
    ],
)
def test_a_difference_is_below_zero_only_with_its_whole_interval(difference: Metric | None, below: bool) -> None:
    assert is_below(difference) is below


@pytest.mark.parametrize(
    ("first", "last", "factor"),
    [(10.0, 15.0, None), (10.0, 16.0, 1.6), (10.0, 6.0, 0.6), (10.0, 7.0, None), (None, 9.0, None), (0.0, 9.0, None)],
)
def test_growth_and_shrinking_are_both_a_drift(first: float | None, last: float | None, factor: float | None) -> None:
    assert drift(first, last) == (factor if factor is None else pytest.approx(factor))


@pytest.mark.parametrize(
    ("difference", "above"),
    [
        (Metric(0.2, 0.1, 0.3, 50), True),
        (Metric(0.2, -0.1, 0.3, 50), False),
        (Metric(0.2, None, None, 1), False),
        (None, False),
    ],
)
def test_a_difference_is_above_zero_only_with_its_whole_interval(difference: Metric | None, above: bool) -> None:
    assert is_above(difference) is above
