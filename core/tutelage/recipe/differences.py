"""The differences between two recipes, as the keys of the file with both values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.recipe.loading import to_values
from tutelage.recipe.schema import Recipe

_MISSING = object()
_LONGEST = 60
"""Number of characters of a value that are shown."""


def differences(before: Recipe, now: Recipe) -> Iterator[str]:
    """Yield each key whose value differs, as ``dpo.beta: 0.1 -> 0.3``.

    A pipeline or control whose key differs in the same way as the section that it takes the key from is not repeated.
    """
    found = {key: (old, new) for key, old, new in _differing("", to_values(before, True), to_values(now, True))}
    for key, change in found.items():
        group, _, inherited = key.partition(".")
        _, _, section = inherited.partition(".")
        if group in ("pipelines", "controls") and found.get(section) == change:
            continue
        yield f"{key}: {_shown(change[0])} -> {_shown(change[1])}"


def _differing(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in {**before, **now}:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differing(inner, before.get(name, _MISSING), now.get(name, _MISSING))
    elif before != now:
        yield key, before, now


def _shown(value: Any) -> str:
    if value is _MISSING or value is None:
        return "none"
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
