"""Decontamination: keep evaluation prompts out of the prompts and examples that models are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from attrs import frozen

from tutelage.data.contamination import EvaluationPrompts, index
from tutelage.data.sets import Sets, load_prompts
from tutelage.errors import InputError
from tutelage.recipe.schema import Recipe
from tutelage.records import Prompt, user_texts

HOLDS = "holds an evaluation prompt"

T = TypeVar("T")


@frozen
class Dropped:
    """A prompt or example that is not used: a row of the artifact that lists them."""

    text: str
    reason: str
    like: str = ""
    """The evaluation prompt that it contains, or the earlier text that it repeats."""
    source: str = ""
    """Name of the evaluation set."""
    share: float | None = None
    """Share of the evaluation prompt that it contains, or similarity to the earlier text; 1 is verbatim."""


def evaluation_prompts(recipe: Recipe, sets: Sets, seed: int) -> EvaluationPrompts | None:
    """Load and index the evaluation prompts of a recipe.

    These are the prompts of ``evaluation.prompts`` and of ``data.decontaminate.against``; of a conversation, every user
    message. Returns None if the recipe
    turns decontamination off. Raises ``InputError`` if a set is missing.
    """
    settings = recipe.data.decontaminate
    if settings is None:
        return None
    sources: list[tuple[str, int | None]] = [(name, None) for name in settings.against]
    if recipe.evaluation:
        sources.append((recipe.evaluation.prompts.source, recipe.evaluation.prompts.count))
    texts = (
        (text, name)
        for name, count in sources
        for prompt in load_prompts(sets, name, count, seed)
        for text in user_texts(prompt.turns)
    )
    return index(texts, settings.n, settings.share)


def held_in(texts: Iterable[str], known: EvaluationPrompts | None) -> Dropped | None:
    """Return the first of the texts that contains an evaluation prompt; None if none does."""
    for text in texts if known else ():
        if known and (overlap := known.find(text)):
            return Dropped(text, HOLDS, overlap.prompt, overlap.source, overlap.share)
    return None


def without_held(
    items: Iterable[T], texts_of: Callable[[T], tuple[str, ...]], known: EvaluationPrompts | None
) -> Iterator[tuple[T, Dropped | None]]:
    """Yield each item with the text of it that contains an evaluation prompt, or None if none of its texts does."""
    for item in items:
        yield item, held_in(texts_of(item), known)


def fresh_rows(
    load: Callable[[int | None], list[Prompt]], wanted: int | None, known: EvaluationPrompts | None
) -> list[tuple[Prompt, Dropped | None]]:
    """Return prompts until ``wanted`` of them contain no evaluation prompt in a user message; None for all prompts.

    ``load(count)`` returns the first ``count`` prompts of a fixed order; None for all. A prompt that contains an
    evaluation prompt is returned with the reason why it is dropped. Raises ``InputError`` if there are not enough
    prompts.
    """
    count = wanted
    while True:
        rows: list[tuple[Prompt, Dropped | None]] = []
        kept = 0
        prompts = _loaded(load, count, wanted)
        for prompt, held in without_held(prompts, lambda one: user_texts(one.turns), known):
            rows.append((prompt, held))
            kept += held is None
            if kept == wanted:
                break
        if count is None or wanted is None or kept == wanted:
            return rows
        count += wanted - kept


def slice_of(
    rows: Iterable[tuple[Prompt, Dropped | None]], skip: int, take: int | None
) -> tuple[list[Prompt], list[Dropped]]:
    """Return the prompts ``skip`` to ``skip + take`` that are not dropped, and those dropped between them."""
    wanted = None if take is None else skip + take
    kept: list[Prompt] = []
    dropped: list[Dropped] = []
    for prompt, held in rows:
        if len(kept) == wanted:
            break
        if held is None:
            kept.append(prompt)
        elif len(kept) >= skip:
            dropped.append(held)
    return kept[skip:], dropped


def _loaded(load: Callable[[int | None], list[Prompt]], count: int | None, wanted: int | None) -> list[Prompt]:
    try:
        return load(count)
    except InputError as error:
        if count == wanted or count is None or wanted is None:
            raise
        raise InputError(
            f"{error} ({wanted} prompts are needed, and at least {count - wanted} contain an evaluation prompt; "
            "see data.decontaminate)"
        ) from error
