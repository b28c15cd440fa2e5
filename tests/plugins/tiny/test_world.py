"""The world: instructions are parsed from their text, have one right answer, and belong to one split."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import InputError
from tutelage_tiny.world import FAMILIES, SPLITS, Task, draw_task, parse, prompts, solve, split_of, tasks

ANSWERS = {
    "sort these words with dashes: pear cat fig": "cat - fig - pear",
    "reverse these words with bars: owl saw kiwi red": "red | kiwi | saw | owl",
    "swap the ends of these words with commas: owl saw kiwi red": "red, saw, kiwi, owl",
    "write each word twice with slashes: fig owl": "fig / fig / owl / owl",
    "write these words twice with slashes: fig owl": "fig / owl / fig / owl",
    "write these words in capitals with commas: fig owl red": "FIG, OWL, RED",
    "take the first 2 words with dashes: fig owl red saw": "fig - owl",
    "take the last 2 words with dashes: fig owl red saw": "red - saw",
    "keep only the animals with bars: fig owl red cat": "owl | cat",
    "remove the animals with bars: fig owl red cat": "fig | red",
    "replace owl by saw with commas: fig owl red": "fig, saw, red",
    "sort these numbers with commas: 9 30 10": "9, 10, 30",
    "count the fruits: fig owl kiwi red saw": "2",
    "add these numbers: 3 10 4": "17",
    "find the odd one: owl cat fig cow": "fig",
}


@pytest.mark.parametrize(("prompt", "answer"), ANSWERS.items())
def test_every_family_has_its_right_answer(prompt: str, answer: str) -> None:
    assert solve(prompt) == answer


def test_the_examples_above_leave_no_family_out() -> None:
    assert {task.family for prompt in ANSWERS if (task := parse(prompt))} == set(FAMILIES)


@given(st.integers())
def test_a_task_is_read_back_from_its_text(seed: int) -> None:
    task = draw_task(random.Random(seed))
    assert parse(task.text) == task


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Write a poem about the sea.",
        "sort these words: pear cat fig",  # a list without a style
        "sort these words with stars: pear cat fig",
        "sort these words with dashes: pear spaceship fig",
        "sort these words with dashes: pear  cat fig",
        "count the planets: fig owl kiwi red saw",
        "take the first 9 words with dashes: fig owl red saw",
        "take the first 0 words with dashes: fig owl red saw",
        "replace bear by saw with commas: fig owl red",
        "find the odd one: owl cat fig red",
        "keep only the tools with bars: fig owl red cat",  # the answer would be empty
        "add these numbers: 30 30",  # the sum is above the largest number
        "add these numbers: fig owl",
    ],
)
def test_a_text_that_is_not_an_instruction_of_this_world_is_rejected(prompt: str) -> None:
    assert parse(prompt) is None
    with pytest.raises(InputError, match="not an instruction of the tiny world"):
        solve(prompt)


def test_the_splits_share_no_instruction_and_own_the_whole_space() -> None:
    assert sorted(hundredth for owned in SPLITS.values() for hundredth in owned) == list(range(100))
    sets = {name: set(prompts(name, 300, seed=1)) for name in SPLITS}
    assert all(len(found) == 300 for found in sets.values())
    for name, found in sets.items():
        assert {split_of(prompt) for prompt in found} == {name}


def test_a_prompt_set_follows_from_its_seed_and_a_smaller_one_is_its_beginning() -> None:
    assert prompts("train", 50, seed=3) == prompts("train", 80, seed=3)[:50]
    assert prompts("train", 50, seed=3) != prompts("train", 50, seed=4)
    assert len(set(prompts("train", 2000, seed=3))) == 2000


def test_tasks_of_a_split_are_of_that_split() -> None:
    drawn = list(islice(tasks("text", random.Random(0)), 200))
    assert {split_of(task.text) for task in drawn} == {"text"}
    assert {task.family for task in drawn} == set(FAMILIES)


def test_a_task_without_style_separates_by_nothing() -> None:
    assert Task("count", ("fig", "owl"), argument="fruits").text == "count the fruits: fig owl"
