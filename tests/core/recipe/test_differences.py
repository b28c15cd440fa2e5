"""The differences between two recipes as the keys of the file."""

from __future__ import annotations

from typing import Any

from recipes import numbers_recipe

from tutelage.recipe.differences import differences
from tutelage.recipe.loading import from_values


def between(**changed: Any) -> list[str]:
    return list(differences(from_values(numbers_recipe()), from_values(numbers_recipe(**changed))))


def test_a_key_that_all_pipelines_inherit_is_named_once() -> None:
    assert between(dpo={"beta": 0.3}) == ["dpo.beta: 0.1 -> 0.3"]


def test_a_key_of_one_pipeline_is_named_with_the_pipeline() -> None:
    pipelines = {"self-reward": {"dpo": {"beta": 0.3}}, "teacher-reward": None, "teacher-demonstration": None}
    assert between(pipelines=pipelines) == ["pipelines.self-reward.dpo.beta: 0.1 -> 0.3"]


def test_sections_that_are_added_or_removed_and_long_values_are_short() -> None:
    assert between(controls={})[0].startswith("controls.random-pairs: {'mirrors': 'self-reward', 'pairs': ")
    assert between(controls={})[0].endswith("... -> none")
    assert between(seeds=[0, 1]) == ["seeds: [0] -> [0, 1]"]
    assert between(evaluation=None)[0].endswith("... -> none")


def test_equal_recipes_do_not_differ() -> None:
    assert between(dpo={"beta": 0.1}) == []
