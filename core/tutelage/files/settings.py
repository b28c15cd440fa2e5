"""From plain values (YAML, JSON) to an attrs class, strictly, with every problem named at once.

``structure`` serves plugins' settings and the recipe alike. It never coerces: ``"3"`` is not a number, ``True`` is not
1, and text is not a list of letters; only a whole number may stand where a number with a fraction is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, TypeVar, get_args

import attrs
from attrs import frozen
from cattrs import AttributeValidationNote, ClassValidationError, IterableValidationError, IterableValidationNote

from tutelage.errors import InputError
from tutelage.files.field_help import field_help
from tutelage.files.strict_converter import init_fields, strict_converter
from tutelage.files.type_words import is_union, type_words

T = TypeVar("T")

_converter = strict_converter()


@frozen
class SettingField:
    """One setting of a class, for ``tutelage plugins show`` and the generated reference."""

    name: str
    """Dotted where settings are nested: ``lora.r``."""
    type: str
    """In words: ``whole number``, ``text or nothing``."""
    default: str | None
    """As Python writes it; None where the setting must be given."""
    help: str
    """``metadata["help"]`` of the attrs field, otherwise the string literal below it in the source; "" for neither."""


def structure(cls: type[T], value: Any, where: str) -> T:
    """Make an instance of ``cls`` (an attrs class, or any type that a field of one may have) from plain values.

    ``where`` begins each line of the error: a file, or whose settings they are. Raises ``InputError`` with all
    problems, one a line, each as ``where: key.path[index]: what is wrong``.
    """
    try:
        return _converter.structure(value, cls)
    except Exception as error:
        problems = list(_problems(error, ""))
        lines = (f"{where}: {path}: {text}" if path else f"{where}: {text}" for path, text in problems)
        raise InputError("\n".join(lines)) from error


def describe_settings(cls: type) -> list[SettingField]:
    """The settings of an attrs class in their order; nested classes give dotted names."""
    return list(_setting_fields(cls, ""))


def _setting_fields(cls: type, prefix: str) -> Iterator[SettingField]:
    documented = field_help(cls)
    for name, field in init_fields(cls).items():
        yield SettingField(
            name=prefix + name,
            type=type_words(field.type).removeprefix("a "),
            default=_default_words(field),
            help=str(field.metadata.get("help") or documented.get(name, "")),
        )
        for kind in get_args(field.type) if is_union(field.type) else (field.type,):
            if isinstance(kind, type) and attrs.has(kind):
                yield from _setting_fields(kind, f"{prefix}{name}.")


def _default_words(field: attrs.Attribute[Any]) -> str | None:
    default: Any = field.default
    if default is attrs.NOTHING:
        return None
    if hasattr(default, "takes_self"):
        return "computed" if default.takes_self else repr(default.factory())
    return repr(default.value if isinstance(default, Enum) else default)


def _problems(error: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """Walk cattrs' tree of errors to its leaves: (key path, message)."""
    path = _path_of(error, path)
    if isinstance(error, ClassValidationError | IterableValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, path)
    else:
        # attrs' own validators put the message first, and behind it the objects that they looked at
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
