"""The training data of a recipe: the sets of the plugins, the examples of M1, the user's pairs, the fresh prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tutelage.data.decontamination import Dropped, evaluation_prompts, fresh_slice, without_held
from tutelage.data.sets import Sets, load_examples, load_preferences, load_prompts, load_rated
from tutelage.files.trl_format import supervised_row
from tutelage.plugin.registry import Registry
from tutelage.preferences.judging import question_messages, render, reply
from tutelage.recipe.schema import Recipe
from tutelage.records import Example, JudgeItem, Preference, Prompt, RatedExample, user_texts


def sets_of(registry: Registry) -> Sets:
    """Return the sets that the installed plugins offer."""
    return Sets(
        lambda name: registry.find("prompt_sets", name),
        lambda name: registry.find("example_sets", name),
        lambda name: registry.find("rated_sets", name),
        lambda name: registry.find("preference_sets", name),
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
        for example, held in without_held(examples, _texts, known):
            yield "ift", supervised_row(example.turns, example.answer), held
    if data.eft:
        rubric = registry.get("rubrics", recipe.judging.rubric)
        rated = load_rated(sets, data.eft.source, data.eft.count, seed, rubric)
        for rating, held in without_held(rated, _texts, known):
            question = render(rubric, JudgeItem("", rating.prompt, rating.answer))
            messages = question_messages(rubric, question)
            yield "eft", supervised_row(messages, reply(rating.score, rating.reason)), held


def _texts(example: Example | RatedExample) -> tuple[str, ...]:
    """The texts of an example that must not contain an evaluation prompt: its user messages and the answer."""
    return (*user_texts(example.turns), example.answer)


def own_preferences(recipe: Recipe, registry: Registry, seed: int) -> Iterator[tuple[Preference, Dropped | None]]:
    """Yield the user's pairs of one seed as (pair, dropped); none if the recipe has no ``data.preferences``.

    ``dropped`` is None if the pair can be used; otherwise it names the evaluation prompt that one of its texts
    contains. Raises InputError if the source is missing, has too few pairs, or has a pair that cannot be trained on.
    """
    if (source := recipe.data.preferences) is None:
        return
    sets = sets_of(registry)
    known = evaluation_prompts(recipe, sets, seed)
    pairs = load_preferences(sets, source.source, source.count, seed)
    yield from without_held(pairs, lambda one: (*user_texts(one.turns), one.chosen, one.rejected), known)


def fresh_prompts(recipe: Recipe, registry: Registry, seed: int) -> list[Prompt]:
    """Return the prompts of all rounds from the source. Raises InputError if the source has too few."""
    sets, prompts = sets_of(registry), recipe.data.fresh_prompts
    wanted = (prompts.count or 0) * recipe.iterations
    known = evaluation_prompts(recipe, sets, seed)
    return fresh_slice(lambda count: load_prompts(sets, prompts.source, count, seed), 0, wanted, known)[0]
