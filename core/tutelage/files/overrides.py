"""Overrides of a settings class: values for some of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from types import GenericAlias
from typing import Any, Generic, TypeVar, get_args, get_origin

import attrs

T = TypeVar("T")


class Overrides(dict[str, Any], Generic[T]):
    """Values for some fields of the attrs class ``T``, by field name.

    As the type of a field (``Overrides[Dpo]``), it is structured like ``T``: each value has the type of its field and
    an unknown name is an error, but no field is required.
    """


def as_overrides(value: Any) -> Overrides[Any]:
    """Return a mapping as overrides. An instance of an attrs class becomes overrides of all its fields."""
    return Overrides(value if isinstance(value, Mapping) else attrs.asdict(value, recurse=False))


def overrides_of(cls: type) -> Any:
    """Return the type ``Overrides[cls]`` for a class that is known at run time only."""
    return GenericAlias(Overrides, (cls,))


def is_overrides(kind: Any) -> bool:
    """Return whether a type is ``Overrides[T]``."""
    return get_origin(kind) is Overrides


def overridden_class(kind: Any) -> type:
    """Return ``T`` of a type ``Overrides[T]``."""
    cls: type = get_args(kind)[0]
    return cls
