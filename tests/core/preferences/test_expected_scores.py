"""Scores as expectations over the probabilities of the score tokens."""

from __future__ import annotations

import math

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tutelage.files.jsonl import converter, dump
from tutelage.preferences.expected_scores import (
    LEAST_MASS,
    expected_judgement,
    expected_score_problem,
    score_replies,
)
from tutelage.preferences.judging import ADDITIVE_REASON_FIRST_RUBRIC, ADDITIVE_RUBRIC, PAIRWISE_RUBRIC, reply
from tutelage.preferences.score_parsing import parse_score
from tutelage.records import Judgement, Outcome, Rubric


def test_the_score_is_the_mean_of_the_scores_weighted_by_their_probabilities() -> None:
    judged = expected_judgement("a", (0.0, 0.1, 0.0, 0.3, 0.4, 0.0), ADDITIVE_RUBRIC)
    assert judged.score == pytest.approx((1 * 0.1 + 3 * 0.3 + 4 * 0.4) / 0.8)
    assert (judged.item_id, judged.outcome, judged.sample, judged.raw) == ("a", Outcome.ANSWERED, 0, "")
    assert judged.probabilities == (0.0, 0.1, 0.0, 0.3, 0.4, 0.0)


def test_a_scale_that_begins_above_0_keeps_its_scores() -> None:
    rubric = evolve(ADDITIVE_RUBRIC, lowest=1.0, highest=3.0)
    assert score_replies(rubric) == ("score: 1", "score: 2", "score: 3")
    assert expected_judgement("a", (0.25, 0.0, 0.75), rubric).score == 2.5


@pytest.mark.parametrize(("mass", "is_scored"), [(LEAST_MASS, True), (LEAST_MASS - 0.01, False), (0.0, False)])
def test_scores_that_have_too_little_probability_are_no_number(mass: float, is_scored: bool) -> None:
    judged = expected_judgement("a", (0.0, 0.0, 0.0, mass, 0.0, 0.0), ADDITIVE_RUBRIC)
    assert judged.score == (3.0 if is_scored else None)
    assert judged.outcome is (Outcome.ANSWERED if is_scored else Outcome.UNPARSED)
    assert (judged.item_id, judged.sample, judged.probabilities[3]) == ("a", 0, mass)
    if not is_scored:
        assert f"the probability {mass:.3f} together" in judged.detail


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6).filter(lambda one: math.fsum(one) >= LEAST_MASS))
def test_a_score_is_never_outside_of_its_scale(probabilities: list[float]) -> None:
    score = expected_judgement("a", probabilities, ADDITIVE_RUBRIC).score
    assert score is not None
    assert 0 <= score <= 5


@pytest.mark.parametrize("probabilities", [(1.0,), (0.5,) * 7, (math.nan, 1, 0, 0, 0, 0), (-0.1, 1, 0, 0, 0, 0), ()])
def test_numbers_that_are_no_probabilities_of_the_scores_are_refused(probabilities: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="are not the probabilities of 6 scores"):
        expected_judgement("a", probabilities, ADDITIVE_RUBRIC)


def test_each_reply_begins_as_the_reply_that_students_learn() -> None:
    for score, text in enumerate(score_replies(ADDITIVE_RUBRIC)):
        assert reply(score, "It says so.").startswith(text)
        assert parse_score(text, ADDITIVE_RUBRIC).score == score


@pytest.mark.parametrize(
    ("rubric", "problem"),
    [
        (ADDITIVE_RUBRIC, None),
        (ADDITIVE_REASON_FIRST_RUBRIC, "rubric 'additive-reason-first' has no score_prefix"),
        (PAIRWISE_RUBRIC, "rubric 'pairwise' has no score_prefix"),
        (Rubric("half", "{prompt}{answer}", 0.5, 5, score_prefix="score: "), "has the scale 0.5 to 5"),
        (Rubric("below", "{prompt}{answer}", -2, 2, score_prefix="score: "), "has the scale -2 to 2"),
        (Rubric("fine", "{prompt}{answer}", 0, 100, score_prefix="score: "), "has more than 100 scores"),
    ],
)
def test_a_rubric_that_has_no_expected_scores_says_why(rubric: Rubric, problem: str | None) -> None:
    found = expected_score_problem(rubric)
    assert found is None if problem is None else problem in str(found)


def test_a_judgement_without_probabilities_is_written_as_before() -> None:
    assert "probabilities" not in dump(Judgement("a", 0, 4.0))
    written = converter().unstructure(expected_judgement("a", (0, 0, 0, 0, 1.0, 0), ADDITIVE_RUBRIC))
    assert converter().structure(written, Judgement).probabilities == (0, 0, 0, 0, 1.0, 0)
