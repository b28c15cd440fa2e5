"""Descriptions of types and values in words, for error messages and generated references."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence, Set
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from tutelage.files.overrides import is_overrides, overridden_class

_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "nothing",
    None: "anything",
    Any: "anything",
}
_SEQUENCES = {list, tuple, set, frozenset, Sequence, MutableSequence, Collection, Iterable, Set}


def is_union(kind: Any) -> bool:
    """Return whether a type is a union: ``A | B`` or ``Optional[A]``."""
    return get_origin(kind) in (Union, UnionType)


def is_sequence(kind: Any) -> bool:
    """Return whether a type is a list, tuple or set, with or without element types."""
    return (get_origin(kind) or kind) in _SEQUENCES


def is_choice(kind: Any) -> bool:
    """Return whether a type is a ``Literal`` or an enumeration."""
    return get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum))


def choices(kind: Any) -> list[Any]:
    """Return the plain values that a ``Literal`` or an enumeration allows; for a union, those of all its members."""
    if is_union(kind):
        return [choice for member in get_args(kind) for choice in choices(member)]
    if not is_choice(kind):
        return []
    return list(get_args(kind)) if get_origin(kind) is Literal else [member.value for member in kind]


def describe_type(kind: Any) -> str:
    """Describe a type for the author of a recipe: ``a whole number``, ``a list of text``, ``'a' or 'b'``."""
    if kind in _NAMES:
        return _NAMES[kind]
    if is_union(kind):
        return " or ".join(describe_type(member) for member in get_args(kind))
    if is_choice(kind):
        return " or ".join(repr(choice) for choice in choices(kind))
    if is_sequence(kind):
        return _describe_sequence(kind)
    if is_overrides(kind):
        return describe_type(overridden_class(kind))
    if (get_origin(kind) or kind) in (dict, Mapping):
        return "a mapping"
    if attrs.has(kind):
        return f"a mapping ({', '.join(field.name for field in attrs.fields(kind) if field.init)})"
    return str(getattr(kind, "__name__", kind))


def _describe_sequence(kind: Any) -> str:
    elements = get_args(kind)
    if not elements:
        return "a list"
    if (get_origin(kind) or kind) is tuple and elements[-1] is not Ellipsis:
        return f"a list of {len(elements)}: {', '.join(map(describe_type, elements))}"
    return f"a list of {describe_type(elements[0]).removeprefix('a ')}"


def describe_value(value: Any) -> str:
    """Describe a value for an error message: its type, and the value itself if it is short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f"text {value if len(value) <= 40 else value[:37] + '...'!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple | set) else f"an object of type {type(value).__name__}"
