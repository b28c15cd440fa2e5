"""The gold rubric: five points for the right answer, and fewer for any other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage_tiny.mistakes import Carelessness, write_answer
from tutelage_tiny.rubric import REASONS, Grade, grade, items_of, score
from tutelage_tiny.world import Task, draw_task, parse


def task_of(prompt: str) -> Task:
    task = parse(prompt)
    assert task is not None
    return task


SORT = task_of("sort these words with dashes: pear cat fig owl")  # cat - fig - owl - pear


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        ("cat - fig - owl - pear", 5, "right."),
        ("cat, fig, owl, pear", 4, "wrong format."),
        ("pear - cat - fig - owl", 3, "wrong order."),
        ("cat - fig - pear", 3, "not complete."),
        ("cat - cat - fig - owl - pear", 3, "not complete."),
        ("pear, cat, fig, owl", 2, "wrong order, wrong format."),
        ("cat - fig - owl - red", 2, "not complete."),
        ("cat, pear, fig", 1, "not complete, wrong format."),
        ("red - saw", 1, "not relevant."),
        ("red, saw", 0, "not relevant, wrong format."),
        ("", 0, "not relevant, wrong format."),
        ("-", 0, "not relevant, wrong format."),
    ],
)
def test_each_point_is_earned_by_itself(answer: str, expected: float, reason: str) -> None:
    graded = grade(SORT, answer)
    assert (graded.score, graded.reason) == (expected, reason)


@pytest.mark.parametrize("spoiled", ["cat - fig - owl - pear ", "cat -  fig - owl - pear", "cat - fig - owl - pear\n"])
def test_an_answer_that_differs_in_a_single_space_is_not_exactly_right(spoiled: str) -> None:
    assert score(SORT, spoiled) == 4


def test_a_list_that_was_never_sorted_is_worth_less_than_one_in_the_wrong_style() -> None:
    assert score(SORT, " - ".join(SORT.items)) < score(SORT, ", ".join(SORT.right_items)) < 5


def test_a_wrong_number_earns_the_point_for_its_form_only() -> None:
    count = task_of("count the fruits: fig owl kiwi red saw")
    assert [score(count, answer) for answer in ("2", "3", "3 2", "fig owl")] == [5, 1, 2, 0]


@given(st.integers())
def test_the_right_answer_has_five_points_and_any_other_has_fewer(seed: int) -> None:
    generator = random.Random(seed)
    task = draw_task(generator)
    assert score(task, task.answer) == 5
    answer = write_answer(task, Carelessness(1.0, 1.0, 0.3, 0.5), generator)
    assert (score(task, answer) == 5) == (answer == task.answer)
    assert score(task, answer) in (0, 1, 2, 3, 4, 5)


@given(st.lists(st.sampled_from(["fig", "owl", ",", "-", "/", "|", "3"]), max_size=12))
def test_any_text_can_be_graded(pieces: list[str]) -> None:
    assert 0 <= score(SORT, " ".join(pieces)) <= 4


def test_items_are_the_texts_between_the_marks() -> None:
    assert items_of("fig, owl - red | saw / 3") == ["fig", "owl", "red", "saw", "3"]


def test_a_reason_is_made_of_the_known_ones() -> None:
    reasons = Grade(0, 0, 0, 0).reason.rstrip(".").split(", ")
    assert set(reasons) <= set(REASONS)
