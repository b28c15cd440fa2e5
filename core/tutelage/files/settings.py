"""Strict conversion of plain values (YAML, JSON) to an attrs class, with all problems in one error.

``structure`` is used for plugins' settings and for the recipe. It does not coerce values: ``"3"`` is not a number,
``True`` is not 1, and text is not a list of letters. The only exception: a whole number is accepted as a float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar, get_args

import attrs
from attrs import frozen
from cattrs import AttributeValidationNote, ClassValidationError, IterableValidationError, IterableValidationNote

from tutelage.errors import InputError
from tutelage.files.field_help import field_help
from tutelage.files.strict_converter import init_fields, strict_converter
from tutelage.files.type_words import describe_type, is_union

T = TypeVar("T")

_converter = strict_converter()


@frozen
class SettingField:
    """One setting of a class, for ``tutelage plugins show`` and the generated reference."""

    name: str
    """Name of the setting; dotted if settings are nested: ``lora.r``."""
    type: str
    """Description of the type: ``whole number``, ``text or nothing``."""
    default: str | None
    """``repr`` of the default; None if the setting is required."""
    help: str
    """``metadata["help"]`` of the attrs field, otherwise the string literal below it in the source; "" for neither."""


def structure(cls: type[T], value: Any, where: str) -> T:
    """Make an instance of ``cls`` (an attrs class, or any type that a field of one may have) from plain values.

    ``where`` begins each line of the error message; it names the file or the owner of the settings. Raises
    ``InputError`` with all problems, one per line, in the form ``where: key.path[index]: problem``.
    """
    try:
        return _converter.structure(value, cls)
    except Exception as error:
        problems = list(_problems(error, ""))
        lines = (f"{where}: {path}: {text}" if path else f"{where}: {text}" for path, text in problems)
        raise InputError("\n".join(lines)) from error


def optional_settings(cls: type | None, values: Mapping[str, Any], where: str, owner: str) -> Any:
    """Return the settings of ``owner``, made from plain values; None if it has no settings class.

    Raises ``InputError`` as ``structure`` does, and if there are values without a settings class.
    """
    if cls is not None:
        return structure(cls, dict(values), where)
    if values:
        given = ", ".join(map(str, values))
        raise InputError(f"{where}: {owner} has no settings, but got {given}; leave them out")
    return None


def describe_settings(cls: type) -> list[SettingField]:
    """Return the settings of an attrs class in the order of its fields; those of nested classes have dotted names."""
    return list(_setting_fields(cls, ""))


def _setting_fields(cls: type, prefix: str) -> Iterator[SettingField]:
    documented = field_help(cls)
    for name, field in init_fields(cls).items():
        yield SettingField(
            name=prefix + name,
            type=describe_type(field.type).removeprefix("a "),
            default=_describe_default(field),
            help=str(field.metadata.get("help") or documented.get(name, "")),
        )
        for kind in get_args(field.type) if is_union(field.type) else (field.type,):
            if isinstance(kind, type) and attrs.has(kind):
                yield from _setting_fields(kind, f"{prefix}{name}.")


def _describe_default(field: attrs.Attribute[Any]) -> str | None:
    default: Any = field.default
    if default is attrs.NOTHING:
        return None
    if hasattr(default, "takes_self"):
        return "computed" if default.takes_self else repr(default.factory())
    return repr(default.value if isinstance(default, Enum) else default)


def _problems(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """The leaves of cattrs' tree of errors: (key path, message)."""
    path = _path_of(error, path)
    if isinstance(error, ClassValidationError | IterableValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, path)
    else:
        # The first argument of an error of attrs' validators is the message; the others are the checked objects.
        yield path, str(error.args[0] if error.args else type(error).__name__)


def _path_of(error: BaseException, path: str) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote) and isinstance(note.index, int):
            return f"{path}[{note.index}]"
        if isinstance(note, AttributeValidationNote | IterableValidationNote):
            key = str(note.name if isinstance(note, AttributeValidationNote) else note.index)
            step = key if key.isprintable() else repr(key)
            return f"{path}.{step}" if path else step
    return path
