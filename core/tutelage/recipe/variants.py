"""The variants of a recipe: the same recipe with other values for some keys.

A recipe names variants (``variants``), or gives several values to some keys (``grid``), of which every combination is a
variant. A combination that changes nothing is the recipe itself, so it is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.recipe.loading import override
from tutelage.recipe.schema import Recipe

BASE = "base"
"""Name of the recipe itself among its variants."""
_UNSAFE = re.compile(r"[^\w.=,+-]+")
"""Characters that a folder name must not have on some file systems, or that are awkward in a shell."""


@frozen
class Variant:
    """A recipe with other values for some keys."""

    name: str
    """Its name in the recipe, or its overrides: ``dpo.beta=0.3,dpo.loss_type=ipo``. It is the name of its folder."""
    overrides: Mapping[str, Any]
    """Values by dotted key."""
    recipe: Recipe


def variants_of(recipe: Recipe) -> tuple[Variant, ...]:
    """Return the variants of a recipe, the named ones first.

    Raises InputError with the variant and the key if the overrides of a variant do not make a recipe, or if two
    variants have the same name.
    """
    base = evolve(recipe, variants={}, grid={})
    found: dict[str, Variant] = {}
    for name, overrides in _named(recipe):
        if name in found or name == BASE:
            raise InputError(f"variants.{name}: the name is taken; choose another one")
        try:
            changed = override(base, overrides)
        except InputError as error:
            raise InputError(f"variant {name}: {error}") from error
        if changed != base:
            found[name] = Variant(name, overrides, changed)
    return tuple(found.values())


def _named(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, overrides in recipe.variants.items():
        if _UNSAFE.sub("-", name) != name or name.startswith("."):
            raise InputError(f"variants.{name}: a name has letters, digits and any of . = , + - _ only")
        yield name, overrides
    for key, values in recipe.grid.items():
        if not values:
            raise InputError(f"grid.{key}: empty; name at least one value")
    if recipe.grid:
        for values in product(*recipe.grid.values()):
            overrides = dict(zip(recipe.grid, values, strict=True))
            yield _UNSAFE.sub("-", ",".join(f"{key}={value}" for key, value in overrides.items())), overrides
