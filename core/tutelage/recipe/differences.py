"""The differences between two recipes, as the keys of the file with both values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.recipe.loading import to_values
from tutelage.recipe.schema import Recipe

_LONGEST = 60
"""Number of characters of a value that are shown."""


def differences(before: Recipe, now: Recipe) -> Iterator[str]:
    """Yield each key whose value differs, as ``dpo.beta: 0.1 -> 0.3``.

    A pipeline or control whose key differs in the same way as the section that it takes the key from is not repeated.
    """
    for key, (old, new) in differing([before, now]).items():
        yield f"{key}: {shown(old)} -> {shown(new)}"


def differing(recipes: Sequence[Recipe]) -> dict[str, tuple[Any, ...]]:
    """Return each key whose values differ, with the value of each recipe; None if a recipe does not have the key.

    A pipeline or control whose key differs in the same way as the section that it takes the key from is not repeated.
    """
    found = dict(_differing("", [to_values(recipe, True) for recipe in recipes]))
    return {key: values for key, values in found.items() if not _is_inherited(key, values, found)}


def _differing(key: str, values: Sequence[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if all(isinstance(value, Mapping) for value in values):
        for name in dict.fromkeys(name for value in values for name in value):
            yield from _differing(f"{key}.{name}" if key else str(name), [value.get(name) for value in values])
    elif any(value != values[0] for value in values):
        yield key, tuple(values)


def _is_inherited(key: str, values: tuple[Any, ...], found: Mapping[str, tuple[Any, ...]]) -> bool:
    group, _, inherited = key.partition(".")
    _, _, section = inherited.partition(".")
    return group in ("pipelines", "controls") and found.get(section) == values


def shown(value: Any) -> str:
    """Return a value of a recipe as a short text."""
    if value is None:
        return "none"
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
