"""The variants of a recipe: named overrides, and every combination of a grid."""

from __future__ import annotations

from typing import Any

import pytest
from recipes import numbers_recipe

from tutelage.errors import InputError
from tutelage.recipe.loading import from_values, to_values
from tutelage.recipe.schema import Recipe
from tutelage.recipe.variants import variants_of


def recipe(**changed: Any) -> Recipe:
    return from_values(numbers_recipe(**changed))


def test_every_combination_of_a_grid_is_a_variant_except_the_recipe_itself() -> None:
    found = variants_of(recipe(grid={"dpo.beta": [0.1, 0.3], "dpo.loss_type": ["sigmoid", "ipo"]}))
    assert [variant.name for variant in found] == [
        "dpo.beta=0.1,dpo.loss_type=ipo",
        "dpo.beta=0.3,dpo.loss_type=sigmoid",
        "dpo.beta=0.3,dpo.loss_type=ipo",
    ]
    assert [variant.recipe.dpo.beta for variant in found] == [0.1, 0.3, 0.3]
    assert all(not variant.recipe.grid for variant in found)


def test_a_named_variant_changes_any_keys_of_the_recipe() -> None:
    overrides = {
        "hot": {"judging.temperature": 1.0, "pipelines.self-reward.pairs.margin": 1},
        "other-student": {"models.student.model": "numbers/other", "seeds": [1, 2]},
        "fewer": {"pipelines.teacher-reward": None},
    }
    hot, other, fewer = variants_of(recipe(variants=overrides))
    assert hot.recipe.for_pipeline("self-reward").pairs.margin == 1
    assert (other.recipe.models.student.model, other.recipe.seeds) == ("numbers/other", (1, 2))
    assert "teacher-reward" not in fewer.recipe.pipelines


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"variants": {"hot": {"dpo.bta": 1}}}, r"variant hot: .*did you mean 'beta'"),
        ({"grid": {"dpo.beta": ["x"]}}, r"variant dpo\.beta=x: .*dpo\.beta"),
        ({"grid": {"dpo.beta": []}}, r"grid\.dpo\.beta: empty"),
        ({"variants": {"base": {"dpo.beta": 1}}}, r"variants\.base: the name is taken"),
        ({"variants": {"../up": {"dpo.beta": 1}}}, r"variants\.\.\./up: a name has letters"),
        ({"variants": {".hidden": {"dpo.beta": 1}}}, r"variants\.\.hidden: a name has letters"),
        ({"variants": {"hot": {"iterations": 0}}}, "variant hot: .*at least one preference round"),
    ],
    ids=str,
)
def test_a_variant_that_is_no_recipe_is_an_error_with_its_name_and_key(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        variants_of(recipe(**changed))


def test_values_that_a_folder_name_cannot_have_are_replaced() -> None:
    [found] = variants_of(recipe(grid={"models.student.model": ["numbers/novice", "some/other: model"]}))
    assert found.name == "models.student.model=some-other-model"


def test_variants_are_stored_with_the_recipe() -> None:
    values = numbers_recipe(variants={"hot": {"dpo.beta": 1}}, grid={"dpo.beta": [0.1, 0.3]})
    assert to_values(from_values(to_values(from_values(values)))) == to_values(from_values(values))
