"""JSON lines. Read errors have file and line number; a written file is complete or does not exist."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter

from tutelage.errors import InputError
from tutelage.files.disk_errors import writing
from tutelage.files.json_text import NotJson, RefusedValue, parse
from tutelage.files.overrides import is_overrides
from tutelage.files.whole import whole_file, write_whole

T = TypeVar("T")


@cache
def converter() -> cattrs.Converter:
    """Return the converter between records and plain JSON values. It refuses unknown keys.

    ``messages`` is only written for a conversation, so a prompt of one message has the same row as in older versions;
    ``metadata`` of a prompt, ``probabilities`` of a judgement, ``variants`` and ``measures`` of a summary, ``measures``
    of a recipe, ``scores`` of an agreement, ``weight`` and ``probability`` of a pair, and ``no_interval`` of a metric
    are only written if they differ from their defaults.
    """
    made = make_converter(forbid_extra_keys=True)

    def without_empty(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
        omitted: dict[str, Any] = {name: override(omit_if_default=True) for name in _omitted_if_empty(cls)}
        return make_dict_unstructure_fn(cls, made, **omitted)

    made.register_unstructure_hook_factory(lambda cls: bool(_omitted_if_empty(cls)), without_empty)
    made.register_unstructure_hook_func(is_overrides, lambda given: {k: made.unstructure(v) for k, v in given.items()})
    return made


def _omitted_if_empty(cls: Any) -> list[str]:
    """The fields of a class that are only written if they are not empty, or not the default."""
    fields = attrs.fields(cls) if attrs.has(cls) else ()
    of_records = ("messages", "metadata", "probabilities", "weight", "probability")
    names = (*of_records, "variants", "measures", "scores", "no_interval")
    defaults: tuple[Any, ...] = ((), attrs.Factory(dict), "parsed", 1.0, "")
    return [field.name for field in fields if field.name in names and field.default in defaults]


def dump(row: Any) -> str:
    """Return a record or mapping as one line of JSON, without line end. Raises ``ValueError`` for NaN or infinity."""
    return json.dumps(converter().unstructure(row), ensure_ascii=False, allow_nan=False)


class RefusedLine(InputError):
    """A line is JSON, but holds a value that UTF-8, floats or recursion do not."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        """File and line."""
        self.reason = reason


Skip = Callable[[RefusedLine], None]
"""Called with a line that is skipped instead of raised."""


def read_rows(path: Path, skip: Skip | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) for the rows of a JSON-lines file. Line numbers start at 1; blank lines are skipped.

    Raises ``InputError`` with file and line for a line that ``parse_line`` refuses, or if the file cannot be read. With
    ``skip``, a ``RefusedLine`` is given to it and is not raised.
    """
    try:
        with path.open("rb") as file:
            yield from rows_in(path, file, skip)
    except OSError as error:
        raise _unreadable(path, error) from error


def rows_in(path: Path, lines: Iterable[bytes], skip: Skip | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) as ``read_rows`` does; ``path`` is for error messages."""
    for number, line in enumerate(lines, 1):
        if not line.removeprefix(BOM_UTF8).strip():
            continue
        try:
            row = parse_line(path, number, line)
        except RefusedLine as refused:
            if skip is None:
                raise
            skip(refused)
        else:
            yield number, row


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Parse the JSON object in one line.

    Raises ``InputError`` with file and line if it is not a JSON object, and its subclass ``RefusedLine`` if it holds a
    value that ``json_text.parse`` refuses.
    """
    place = f"{path}, line {number}"
    try:
        row = parse(line)
    except RefusedValue as error:
        raise RefusedLine(place, str(error)) from error
    except NotJson as error:
        end = "" if line.endswith(b"\n") else "at the end of the file: is the file incomplete? "
        raise InputError(f"{place}: {error}; {end}{_expected(path)}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected one JSON object, found a {type(row).__name__}")
    return row


def read_json(path: Path, nan: bool = False) -> Any:
    """Read a JSON file, with a byte-order mark or without. ``nan`` accepts NaN, which pandas writes.

    Raises ``InputError`` with file and line if ``json_text.parse`` refuses it, or if the file cannot be read.
    """
    try:
        return parse(path.read_bytes(), nan)
    except OSError as error:
        raise _unreadable(path, error) from error
    except NotJson as error:
        raise InputError(f"{path}, line {error.line}: {error}") from error


def read_list(path: Path, nan: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (location, row) for the objects of a JSON list (the file begins with "["), or of JSON lines.

    ``nan`` accepts NaN in a list. Raises ``InputError`` with the location as ``read_json`` and ``read_rows`` do, and if
    an item of the list is not an object.
    """
    try:
        with path.open("rb") as file:
            is_list = file.read(4096).removeprefix(BOM_UTF8).lstrip().startswith(b"[")
    except OSError as error:
        raise _unreadable(path, error) from error
    if not is_list:
        yield from ((f"{path}, line {number}", row) for number, row in read_rows(path))
        return
    for number, row in enumerate(read_json(path, nan), 1):
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {number}: expected one JSON object, found a {type(row).__name__}")
        yield f"{path}, row {number}", row


def read_records(path: Path, cls: type[T]) -> Iterator[T]:
    """Yield the records of a JSON-lines file. Raises ``InputError`` with file and line if a row is not a ``cls``."""
    for number, row in read_rows(path):
        yield record_of(path, number, row, cls)


def record_of(path: Path, number: int, row: dict[str, Any], cls: type[T]) -> T:
    """Return the record in the row of a line. Raises ``InputError`` with file and line if it is not a ``cls``."""
    try:
        return converter().structure(row, cls)
    except Exception as error:
        problems = "; ".join(cattrs.transform_error(error, path="row"))
        raise InputError(f"{path}, line {number}: not a {cls.__name__}: {problems}") from error


def _expected(path: Path) -> str:
    if path.suffix == ".json":
        return "the file must be a list of JSON objects, or have one JSON object per line"
    return "each line must be one JSON object"


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror}); check the path")


def write_rows(path: Path, rows: Iterable[Any]) -> int:
    """Write records or mappings to a JSON-lines file atomically. Returns the number of rows."""
    count = 0
    with whole_file(path) as temporary:
        with writing(path):
            file = temporary.open("w", encoding="utf-8", newline="\n")
        try:
            for row in rows:
                line = dump(row) + "\n"
                with writing(path):
                    file.write(line)
                count += 1
            with writing(path):
                file.close()
        finally:
            with suppress(OSError):  # after an error, closing the file tries to write again
                file.close()
    return count


def write_json(path: Path, value: Any) -> None:
    """Write a record or mapping to an indented JSON file atomically. The order of the keys is kept."""
    text = json.dumps(converter().unstructure(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
