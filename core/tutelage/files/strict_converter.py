"""The strict cattrs converter: its hooks raise a readable error where cattrs would coerce a value.

cattrs selects the hook by type and calls it with (value, type). A hook factory makes the hook for a type. The location
of an error is stored in cattrs' notes on the exception.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import cattrs
from cattrs import AttributeValidationNote, ClassValidationError, IterableValidationError, IterableValidationNote
from cattrs.cols import is_mapping, mapping_structure_factory

from tutelage.errors import nearest
from tutelage.files.overrides import Overrides, as_overrides, is_overrides, overridden_class
from tutelage.files.type_words import choices, describe_type, describe_value, is_choice, is_sequence, is_union


def strict_converter() -> cattrs.Converter:
    """Return a converter with strict hooks for every type that a setting may have."""
    converter = cattrs.Converter()
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(is_overrides, _overrides_hook)
    converter.register_structure_hook_factory(is_sequence, _sequence_hook)
    converter.register_structure_hook_factory(is_union, _union_hook)
    converter.register_structure_hook_func(is_choice, _choice)
    for kind in (bool, int, float, str, Path):
        converter.register_structure_hook(kind, _scalar)
    converter.register_structure_hook(type(None), _none)
    return converter


def init_fields(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """Return the fields of an attrs class that its constructor takes, by name, with resolved types."""
    attrs.resolve_types(cls)
    return {field.name: field for field in attrs.fields(cls) if field.init}


def _at_key(error: Exception, name: str) -> Exception:
    error.add_note(AttributeValidationNote(f"at {name}", name, Any))
    return error


def _mismatch(kind: Any, value: Any) -> ValueError:
    hint = ""
    if isinstance(value, str) and (texts := [choice for choice in choices(kind) if isinstance(choice, str)]):
        near = nearest(value, texts)
        hint = near if "did you mean" in near else ""
    elif isinstance(value, str) and _takes_number(kind) and _reads_as_number(value):
        hint = "; write it without quotes" + (f", as {float(value)!r}" if "e" in value.lower() else "")
    return ValueError(f"expected {describe_type(kind)}, got {describe_value(value)}{hint}")


def _takes_number(kind: Any) -> bool:
    return any(member in (int, float) for member in (get_args(kind) if is_union(kind) else (kind,)))


def _reads_as_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _scalar(value: Any, kind: Any) -> Any:
    if type(value) is kind:
        if kind is float and not math.isfinite(value):
            raise ValueError(f"expected a finite number, got {value}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is str and isinstance(value, str):
        return str(value)
    raise _mismatch(kind, value)


def _choice(value: Any, kind: Any) -> Any:
    for choice in choices(kind):
        if value == choice and isinstance(value, bool) is isinstance(choice, bool):
            return kind(value) if isinstance(kind, type) else choice
    raise _mismatch(kind, value)


def _class_hook(cls: Any, converter: cattrs.Converter) -> Any:
    fields = init_fields(cls)

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise _mismatch(cls, value)
        missing = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in value]
        given = _fields_given(cls, value, converter, missing)
        return _built(cls, {fields[name].alias or name: each for name, each in given.items()})

    return hook


def _overrides_hook(kind: Any, converter: cattrs.Converter) -> Any:
    cls = overridden_class(kind)

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, cls):
            return as_overrides(value)
        if not isinstance(value, Mapping):
            raise _mismatch(cls, value)
        return Overrides(_fields_given(cls, value, converter))

    return hook


def _fields_given(
    cls: type, value: Mapping[Any, Any], converter: cattrs.Converter, missing: Iterable[str] = ()
) -> dict[str, Any]:
    """Structure the fields of a class that ``value`` has. Raises one error for all wrong, unknown and missing keys."""
    fields = init_fields(cls)
    errors = [
        _at_key(ValueError(f"unknown key{_near_key(str(key), fields, value)}"), str(key))
        for key in value
        if key not in fields
    ]
    given = {}
    for name, field in fields.items():
        try:
            if name in value:
                given[name] = converter.structure(value[name], field.type or Any)
            elif name in missing:
                raise ValueError(f"missing; expected {describe_type(field.type)}")
        except Exception as error:
            errors.append(_at_key(error, name))
    if errors:
        raise ClassValidationError(f"While structuring {cls.__name__}", errors, cls)
    return given


def _near_key(key: str, known: Iterable[str], given: Container[object]) -> str:
    """The hint for an unknown key: a similar key that is not given yet, or else any similar key."""
    near = nearest(key, [name for name in known if name not in given])
    return near if "did you mean" in near else nearest(key, known)


def _built(cls: Any, arguments: Mapping[str, Any]) -> Any:
    """Call the class. If a validator fails, run all of them, so that every problem is reported at its own key."""
    instance = cls.__new__(cls)
    try:
        instance.__init__(**arguments)
    except Exception as error:
        errors = list(_validator_errors(instance)) or [error]
        raise ClassValidationError(f"While validating {cls.__name__}", errors, cls) from None
    return instance


def _validator_errors(instance: Any) -> Iterator[Exception]:
    for field in attrs.fields(type(instance)):
        if field.validator is not None and hasattr(instance, field.name):
            try:
                field.validator(instance, field, getattr(instance, field.name))
            except Exception as error:
                yield _at_key(error, field.name)


def _sequence_hook(kind: Any, converter: cattrs.Converter) -> Any:
    origin = get_origin(kind) or kind
    make = origin if origin in (list, set, frozenset) else frozenset if origin is Set else tuple
    elements = get_args(kind) or (Any, ...)
    fixed = origin is tuple and elements[-1] is not Ellipsis

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, str) or not isinstance(value, Sequence | Set):
            raise _mismatch(kind, value)
        if fixed and len(value) != len(elements):
            raise ValueError(f"expected {describe_type(kind)}, got {len(value)} of them")
        items, errors = [], []
        for index, item in enumerate(value):
            element = elements[index] if fixed else elements[0]
            try:
                items.append(converter.structure(item, element))
            except Exception as error:
                error.add_note(IterableValidationNote(f"at {index}", index, element))
                errors.append(error)
        if errors:
            raise IterableValidationError("While structuring a list", errors, kind)
        return make(items)

    return hook


def _mapping_hook(kind: Any, converter: cattrs.Converter) -> Any:
    make = mapping_structure_factory(kind, converter)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _mismatch(kind, value)
        return make(value, kind)

    return hook


def _union_hook(kind: Any, converter: cattrs.Converter) -> Any:
    members = get_args(kind)

    def hook(value: Any, _: Any) -> Any:
        if (shaped := _same_shape(value, members)) is not None:
            return converter.structure(value, shaped)
        for member in sorted(members, key=lambda member: member is not type(value)):
            try:
                return converter.structure(value, member)
            except Exception:  # the next member may accept the value; the error is raised if none does
                continue
        raise _mismatch(kind, value)

    return hook


def _same_shape(value: Any, members: Sequence[Any]) -> Any:
    """The only member with the value's shape, or None. Its errors are more specific than those of the union."""
    if isinstance(value, Mapping):
        return _best_class(value, [member for member in members if attrs.has(member) or is_mapping(member)])
    if isinstance(value, list | tuple):
        shaped = [member for member in members if is_sequence(member)]
        return shaped[0] if len(shaped) == 1 else None
    return None


def _best_class(value: Mapping[Any, Any], members: Sequence[Any]) -> Any:
    """The member that has the most of the keys. If two have equally many, the choice is ambiguous and an error."""
    if len(members) < 2:
        return members[0] if members else None
    known = [len(set(value) & set(init_fields(member))) if attrs.has(member) else 0 for member in members]
    best = [member for member, count in zip(members, known, strict=True) if count == max(known)]
    if len(best) > 1:
        names = " or ".join(member.__name__ for member in best)
        raise ValueError(f"ambiguous: this can be {names}; give a key that only one of them has")
    return best[0]


def _none(value: Any, _: Any) -> None:
    if value is not None:
        raise _mismatch(type(None), value)
