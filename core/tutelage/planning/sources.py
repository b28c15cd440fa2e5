"""What a recipe learns from: the sets of the plugins, the seed examples of M1, and the fresh prompts."""

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
    """The sets that the installed plugins offer."""
    return Sets(
        lambda name: registry.find("prompt_sets", name),
        lambda name: registry.find("example_sets", name),
        lambda name: registry.find("rated_sets", name),
    )


def seed_examples(
    recipe: Recipe, registry: Registry, seed: int
) -> Iterator[tuple[Literal["ift", "eft"], dict[str, Any], Dropped | None]]:
    """IFT as it is; EFT as the very question that judging asks, with the reply that it should get.

    With each example what makes it one to drop, where it holds an evaluation prompt. Raises InputError where a source
    is missing or has too few.
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
        for judged, held in without_held(rated, lambda one: (one.prompt, one.answer), known):
            question = render(rubric, JudgeItem("", judged.prompt, judged.answer))
            yield "eft", supervised_row(question, reply(judged.score, judged.reason)), held


def fresh_prompts(recipe: Recipe, registry: Registry, seed: int) -> list[str]:
    """The prompts of all rounds, where they are taken from a source. Raises InputError where it has too few."""
    sets, prompts = sets_of(registry), recipe.data.prompts
    wanted = (prompts.count or 0) * recipe.iterations
    known = evaluation_prompts(recipe, sets, seed)
    return fresh_slice(lambda count: load_prompts(sets, prompts.source, count, seed), 0, wanted, known)[0]
