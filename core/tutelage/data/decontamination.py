"""Keeps what is evaluated on out of what is learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from attrs import frozen

from tutelage.data.contamination import EvaluationPrompts, index
from tutelage.data.sets import Sets, load_prompts
from tutelage.errors import InputError
from tutelage.recipe.schema import Recipe

HOLDS = "holds an evaluation prompt"

T = TypeVar("T")


@frozen
class Dropped:
    """A prompt or example that is not learned from: a row of the artifact that lists them."""

    text: str
    reason: str
    like: str = ""
    """The evaluation prompt that it holds, or the earlier text that it repeats."""
    source: str = ""
    """The evaluation set."""
    share: float | None = None
    """How much of it, or how similar: 1 is verbatim."""


def evaluation_prompts(recipe: Recipe, sets: Sets, seed: int) -> EvaluationPrompts | None:
    """The evaluation prompts that a recipe keeps clear of, ready to look texts up in; None where it looks for none.

    Raises InputError where a set is missing.
    """
    settings = recipe.data.decontaminate
    if settings is None:
        return None
    sources: list[tuple[str, int | None]] = [(name, None) for name in settings.against]
    if recipe.evaluation:
        sources.append((recipe.evaluation.prompts.source, recipe.evaluation.prompts.count))
    texts = ((text, name) for name, count in sources for text in load_prompts(sets, name, count, seed))
    return index(texts, settings.n, settings.share)


def held_in(texts: Iterable[str], known: EvaluationPrompts | None) -> Dropped | None:
    """The first of the texts that holds an evaluation prompt, as it is listed; None where none does."""
    for text in texts if known else ():
        if known and (overlap := known.find(text)):
            return Dropped(text, HOLDS, overlap.prompt, overlap.source, overlap.share)
    return None


def without_held(
    items: Iterable[T], texts_of: Callable[[T], tuple[str, ...]], known: EvaluationPrompts | None
) -> Iterator[tuple[T, Dropped | None]]:
    """Each item, with what makes it one to drop: a text of it that holds an evaluation prompt."""
    for item in items:
        yield item, held_in(texts_of(item), known)


def fresh_slice(
    load: Callable[[int | None], list[str]], skip: int, take: int | None, known: EvaluationPrompts | None
) -> tuple[list[str], list[Dropped]]:
    """The prompts ``skip`` to ``skip + take`` of those that hold no evaluation prompt, and what was dropped there.

    ``load`` gives so many prompts, in an order in which fewer are a part of more. Raises InputError where there are
    not enough.
    """
    wanted = None if take is None else skip + take
    asked = wanted
    while True:
        kept: list[str] = []
        dropped: list[Dropped] = []
        for text, held in without_held(_loaded(load, asked, wanted), lambda text: (text,), known):
            if held is None:
                kept.append(text)
            elif len(kept) >= skip:
                dropped.append(held)
            if wanted is not None and len(kept) == wanted:
                break
        if asked is None or wanted is None or len(kept) == wanted:
            return kept[skip:], dropped
        asked += wanted - len(kept)


def _loaded(load: Callable[[int | None], list[str]], asked: int | None, wanted: int | None) -> list[str]:
    try:
        return load(asked)
    except InputError as error:
        if asked == wanted or asked is None or wanted is None:
            raise
        raise InputError(
            f"{error} ({wanted} are needed, and {asked - wanted} or more hold an evaluation prompt: "
            "see data.decontaminate)"
        ) from error
