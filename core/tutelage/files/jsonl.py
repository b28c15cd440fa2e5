"""JSON lines. Read errors have file and line number; a written file is complete or does not exist."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from tutelage.errors import InputError
from tutelage.files.disk_errors import writing
from tutelage.files.whole import whole_file, write_whole

T = TypeVar("T")


@cache
def converter() -> cattrs.Converter:
    """Return the converter between records and plain JSON values. It refuses unknown keys."""
    return make_converter(forbid_extra_keys=True)


def dump(row: Any) -> str:
    """Return a record or mapping as one line of JSON, without line end. Raises ``ValueError`` for NaN or infinity."""
    return json.dumps(converter().unstructure(row), ensure_ascii=False, allow_nan=False)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) for the rows of a JSON-lines file. Line numbers start at 1; blank lines are skipped.

    Raises ``InputError`` with file and line if a line is not a JSON object or not UTF-8, or if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parse_line(path, number, line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Parse the JSON object in one line. Raises ``InputError`` with file and line if it is not a JSON object."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}" + (
            "" if line.endswith(b"\n") else ", at the end of the file: is the file incomplete?"
        )
        raise InputError(f"{path}, line {number}: not JSON ({reason}); each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: expected one JSON object, found a {type(row).__name__}")
    return row


def read_records(path: Path, cls: type[T]) -> Iterator[T]:
    """Yield the records of a JSON-lines file. Raises ``InputError`` with file and line if a row is not a ``cls``."""
    for number, row in read_rows(path):
        try:
            yield converter().structure(row, cls)
        except Exception as error:
            problems = "; ".join(cattrs.transform_error(error, path="row"))
            raise InputError(f"{path}, line {number}: not a {cls.__name__}: {problems}") from error


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
