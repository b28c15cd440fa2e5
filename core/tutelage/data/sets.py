"""Prompts and examples by name: from a set that a plugin offers, or from a JSON-lines file, checked row by row."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from tutelage.errors import InputError
from tutelage.files.jsonl import read_rows
from tutelage.plugin_info import NamedSet
from tutelage.records import Example, RatedExample

T = TypeVar("T")


@frozen
class Sets:
    """Looks for a plugin's set by its qualified name; None where the name is not of that kind.

    ``find`` is the registry's: it raises InputError where the plugin is there and the set is not.
    """

    prompts: Callable[[str], NamedSet[str] | None]
    examples: Callable[[str], NamedSet[Example] | None]
    rated: Callable[[str], NamedSet[RatedExample] | None]


def load_prompts(sets: Sets, source: str, count: int | None, seed: int) -> list[str]:
    """Texts of distinct prompts: ``count`` of them in an order drawn by ``seed``, or all.

    Raises InputError where the source has fewer than ``count``, or a row without a ``prompt``.
    """
    found = _load(sets.prompts(source), source, count, seed, prompt_of)
    if len(set(found)) != len(found):
        found = list(dict.fromkeys(found))
    return _enough(found, source, count)


def load_seed_prompts(sets: Sets, source: str, most: int, seed: int) -> list[str]:
    """Texts of distinct prompts to show as examples: ``most`` of them, or all where there are fewer.

    Raises InputError where there are none, or a row without a ``prompt``.
    """
    named = sets.prompts(source)
    count = None if named is None else min(most, named.size or most)
    found = list(dict.fromkeys(_load(named, source, count, seed, prompt_of)))
    return _enough(found[:most], source, None)


def load_examples(sets: Sets, source: str, count: int | None, seed: int) -> list[Example]:
    """Instruction examples. Raises InputError as ``load_prompts``."""
    return _enough(_load(sets.examples(source), source, count, seed, example_of), source, count)


def load_rated(sets: Sets, source: str, count: int | None, seed: int) -> list[RatedExample]:
    """Judging examples. Raises InputError as ``load_prompts``."""
    return _enough(_load(sets.rated(source), source, count, seed, rated_of), source, count)


def prompt_of(row: Mapping[str, Any]) -> str:
    """The prompt of a row. Raises ValueError where there is none."""
    return text_of(row, "prompt")


def example_of(row: Mapping[str, Any]) -> Example:
    """The instruction example in a row. Raises ValueError where something is missing."""
    return Example(text_of(row, "prompt"), text_of(row, "answer"))


def rated_of(row: Mapping[str, Any]) -> RatedExample:
    """The judging example in a row. Raises ValueError where something is missing or the score is not a number."""
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError("`score` must be a number")
    return RatedExample(text_of(row, "prompt"), text_of(row, "answer"), float(score), str(row.get("reason", "")))


def text_of(row: Mapping[str, Any], key: str) -> str:
    """The text that a row has under a key. Raises ValueError where there is none, or an empty one."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{key}` must be a text that is not empty; the row has {', '.join(sorted(row)) or 'no keys'}")
    return value


def _load(
    named: NamedSet[T] | None, source: str, count: int | None, seed: int, read: Callable[[Mapping[str, Any]], T]
) -> list[T]:
    if named is not None:
        if count is None and named.size is None:
            raise InputError(f"{source}: a set without a known end; say how many with `count`")
        return list(named.load(named.size or 0 if count is None else count, seed))
    rows = list(_read_file(Path(source), read))
    random.Random(seed).shuffle(rows)
    return rows


def _read_file(path: Path, read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    for number, row in read_rows(path):
        try:
            yield read(row)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error


def _enough(found: list[T], source: str, count: int | None) -> list[T]:
    if not found:
        raise InputError(f"{source}: empty; at least one row is needed")
    if count is None:
        return found
    if len(found) < count:
        raise InputError(f"{source}: {count} different ones are asked for and {len(found)} are there; lower the count")
    return found[:count]
