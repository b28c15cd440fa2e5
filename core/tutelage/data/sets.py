"""Loading of prompts and examples from a set that a plugin offers, or from a JSON-lines file."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows
from tutelage.plugin_info import NamedSet
from tutelage.records import Example, RatedExample, Rubric

T = TypeVar("T")
ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")


@frozen
class Sets:
    """Functions that find a plugin's set by its qualified name, ``PLUGIN/NAME``.

    Each returns None if the name does not name a plugin, and raises ``InputError`` if the plugin exists and does not
    offer the set. They are the registry's ``find_prompt_set``, ``find_example_set`` and ``find_rated_set``.
    """

    prompts: Callable[[str], NamedSet[str] | None]
    examples: Callable[[str], NamedSet[Example] | None]
    rated: Callable[[str], NamedSet[RatedExample] | None]


def load_prompts(sets: Sets, source: str, count: int | None, seed: int) -> list[str]:
    """Load the texts of distinct prompts, in an order drawn by ``seed``: the first ``count``, or all if it is None.

    ``source`` is ``PLUGIN/NAME`` or the path of a JSON-lines file. Raises ``InputError`` if the source has fewer than
    ``count`` distinct prompts, or a row without a ``prompt``.
    """
    found = _load(sets.prompts(source), source, count, seed, prompt_of)
    if len(set(found)) != len(found):
        found = list(dict.fromkeys(found))
    return _enough(found, source, count)


def load_seed_prompts(sets: Sets, source: str, most: int, seed: int) -> list[str]:
    """Load the texts of at most ``most`` distinct prompts, which are shown as examples in self-instruct requests.

    Raises ``InputError`` if there is no prompt, or a row without a ``prompt``.
    """
    named = sets.prompts(source)
    count = None if named is None else min(most, named.size or most)
    found = list(dict.fromkeys(_load(named, source, count, seed, prompt_of)))
    return _enough(found[:most], source, None)


def load_examples(sets: Sets, source: str, count: int | None, seed: int) -> list[Example]:
    """Load instruction examples (IFT); arguments and errors as in ``load_prompts``."""
    return _enough(_load(sets.examples(source), source, count, seed, example_of), source, count)


def load_rated(
    sets: Sets, source: str, count: int | None, seed: int, rubric: Rubric | None = None
) -> list[RatedExample]:
    """Load judging examples (EFT); arguments and errors as in ``load_prompts``.

    With ``rubric``, a score outside its scale raises ``InputError`` with the place, also in a row that is not drawn.
    """

    def check(example: RatedExample) -> None:
        if rubric is not None:
            _check_scale(rubric, source, example)

    return _enough(_load(sets.rated(source), source, count, seed, rated_of, check), source, count)


def prompt_of(row: Mapping[str, Any]) -> str:
    """Parse the prompt of a row. Raises ``ValueError`` if it is missing."""
    return text_of(row, "prompt")


def example_of(row: Mapping[str, Any]) -> Example:
    """Parse the instruction example in a row. Raises ``ValueError`` if a key is missing."""
    return Example(text_of(row, "prompt"), text_of(row, "answer"))


def rated_of(row: Mapping[str, Any]) -> RatedExample:
    """Parse the judging example in a row. Raises ``ValueError`` if a key is missing or the score is not a number."""
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError("`score` must be a number")
    return RatedExample(text_of(row, "prompt"), text_of(row, "answer"), float(score), str(row.get("reason", "")))


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return the text of a row's key. Raises ``ValueError`` if it is missing, empty or not a text."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{key}` must be a text that is not empty; the row has {', '.join(sorted(row)) or 'no keys'}")
    return value


def _check_scale(rubric: Rubric, source: str, example: RatedExample) -> None:
    """Raise ``ValueError`` if the score of an example is outside the scale of the rubric."""
    if not rubric.lowest <= example.score <= rubric.highest:
        scale = f"{rubric.lowest:g}-{rubric.highest:g}"
        to_scale = "" if scale == "0-5" else f" --to-scale {scale}"
        raise ValueError(
            f"the score {example.score:g} is outside the scale {scale} of the rubric {rubric.name!r}; "
            f"`tutelage data import eft {source} OUT --scale LOW-HIGH{to_scale}` maps scores"
        )


def _load(
    named: NamedSet[T] | None,
    source: str,
    count: int | None,
    seed: int,
    read: Callable[[Mapping[str, Any]], T],
    check: Callable[[T], None] = lambda row: None,
) -> list[T]:
    """Load rows; ``read`` and ``check`` raise ``ValueError`` for a row that cannot be used, which gets its location."""
    if named is not None:
        if count is None and named.size is None:
            raise InputError(f"{source}: the size of this set is not known; set `count`")
        found = list(named.load(named.size or 0 if count is None else count, seed))
        for number, row in enumerate(found, 1):
            _checked(f"{source}, example {number}", check, row)
        return found
    rows = []
    for number, values in read_rows(Path(source)):
        place = f"{source}, line {number}"
        row = _checked(place, read, values)
        _checked(place, check, row)
        rows.append(row)
    random.Random(seed).shuffle(rows)
    return rows


def _checked(place: str, function: Callable[[ValueT], ResultT], value: ValueT) -> ResultT:
    """Call a function; its ``ValueError`` becomes an ``InputError`` with the location."""
    try:
        return function(value)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error


def _enough(found: list[T], source: str, count: int | None) -> list[T]:
    if not found:
        raise InputError(f"{source}: empty; at least one row is needed")
    if count is None:
        return found
    if len(found) < count:
        raise InputError(
            f"{source}: {count} different rows are needed, but there are only {len(found)}; lower the count"
        )
    return found[:count]
