"""The training data of a recipe: the sets of the plugins, the examples of M1, and the fresh prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tutelage.data.decontamination import Dropped, evaluation_prompts, fresh_slice, without_held
from tutelage.data.sets import Sets, load_examples, load_prompts, load_rated
from tutelage.files.trl_format import supervised_row
from tutelage.plugin.registry import Registry
from tutelage.preferences.judging import render, reply
from tutelage.recipe.schema import Recipe
from tutelage.records import JudgeItem


def sets_of(registry: Registry) -> Sets:
    """Return the sets that the installed plugins offer."""
    return Sets(
        lambda name: registry.find("prompt_sets", name),
        lambda name: registry.find("example_sets", name),
        lambda name: registry.find("rated_sets", name),
    )


def seed_examples(
    recipe: Recipe, registry: Registry, seed: int
) -> Iterator[tuple[Literal["ift", "eft"], dict[str, Any], Dropped | None]]:
    """Yield the examples of M1 as (kind, row, dropped).

    An IFT row has the instruction and its answer. An EFT row has the judge prompt of the answer and the expected reply.
    ``dropped`` is None if the example can be used; otherwise it names the evaluation prompt that the example contains.
    Raises InputError if a source is missing or has too few rows.
    """
    data, sets = recipe.data, sets_of(registry)
    known = evaluation_prompts(recipe, sets, seed)
    if data.ift:
        examples = load_examples(sets, data.ift.source, data.ift.count, seed)
        for example, held in without_held(examples, lambda one: (one.prompt, one.answer), known):
            yield "ift", supervised_row(example.prompt, example.answer), held
    if data.eft:
        rubric = registry.get("rubrics", recipe.judging.rubric)
        rated = load_rated(sets, data.eft.source, data.eft.count, seed)
        for rating, held in without_held(rated, lambda one: (one.prompt, one.answer), known):
            question = render(rubric, JudgeItem("", rating.prompt, rating.answer))
            yield "eft", supervised_row(question, reply(rating.score, rating.reason)), held


def fresh_prompts(recipe: Recipe, registry: Registry, seed: int) -> list[str]:
    """Return the prompts of all rounds from the source. Raises InputError if the source has too few."""
    sets, prompts = sets_of(registry), recipe.data.prompts
    wanted = (prompts.count or 0) * recipe.iterations
    known = evaluation_prompts(recipe, sets, seed)
    return fresh_slice(lambda count: load_prompts(sets, prompts.source, count, seed), 0, wanted, known)[0]
