"""JSON lines: read with the place of every fault, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from tutelage.errors import InputError
from tutelage.files.whole import write_whole

T = TypeVar("T")


@cache
def converter() -> cattrs.Converter:
    """The one converter between records and plain JSON values. An unknown key is an error, not a loss."""
    return make_converter(forbid_extra_keys=True)


def dump(row: Any) -> str:
    """One record or plain mapping as one line, without the line end. NaN is refused: it is not JSON."""
    return json.dumps(converter().unstructure(row), ensure_ascii=False, allow_nan=False)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row) of a JSON-lines file; blank lines are passed over.

    Raises InputError with file and line where a line is not a JSON object, or the file is not UTF-8 or not there.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parse_line(path, number, line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The JSON object in one line. Raises InputError with file and line where it is none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}" + (
            "" if line.endswith(b"\n") else ", where the file ends: was it cut?"
        )
        raise InputError(f"{path}, line {number}: not JSON ({reason}); each line is one JSON object") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: a {type(row).__name__}, where one JSON object is expected")
    return row


def read_records(path: Path, cls: type[T]) -> Iterator[T]:
    """Yield the records of a JSON-lines file. Raises InputError with file and line where a row is not a ``cls``."""
    for number, row in read_rows(path):
        try:
            yield converter().structure(row, cls)
        except Exception as error:
            problems = "; ".join(cattrs.transform_error(error, path="row"))
            raise InputError(f"{path}, line {number}: not a {cls.__name__}: {problems}") from error


def write_rows(path: Path, rows: Iterable[Any]) -> int:
    """Write records or mappings as a finished JSON-lines file; returns how many."""
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(dump(row) + "\n")
                count += 1

    write_whole(path, write)
    return count


def write_json(path: Path, value: Any) -> None:
    """Write a record or mapping as a finished, readable JSON file with keys in their own order."""
    text = json.dumps(converter().unstructure(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
