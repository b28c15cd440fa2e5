"""Readers of external data: JSON lines, JSON, CSV, Parquet, a ``datasets`` folder or a data set of the hub.

Every row has its location for error messages. Encodings and separators are not guessed: a file that does not match the
expected format is an error.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.files.jsonl import Skip, read_list, read_rows, rows_in
from tutelage.installation import install_command

HUB = "hub:"
LONGEST = 1_000_000
"""Maximum number of characters of one text, far above the context length of any student."""


@frozen
class TableRow:
    """One row and its location."""

    place: str
    """Location for error messages, such as ``FILE, line 3``."""
    values: Mapping[str, Any]


def read_table(source: str, split: str = "train", separator: str = ",", skip: Skip | None = None) -> Iterator[TableRow]:
    """Read the rows of a file, a ``datasets`` folder, or ``hub:OWNER/NAME[/FILE][@REVISION]``.

    With FILE, that file of the hub's repository is fetched and read. The file extension selects the format. ``split``
    is used for the hub and for folders with several splits, ``separator`` for CSV, ``skip`` as in ``jsonl.read_rows``
    for JSON lines. Raises ``InputError`` with the location if something cannot be read.
    """
    if source.startswith(HUB):
        name, _, revision = source.removeprefix(HUB).partition("@")
        owner, _, rest = name.partition("/")
        repository, _, file = rest.partition("/")
        if not file:
            return _hub(name, split, revision)
        source = _hub_file(f"{owner}/{repository}", file, revision)
    path = Path(source)
    if path.is_dir():
        return _folder(path, split)
    if not path.is_file():
        raise InputError(f"{source}: does not exist; expected a file, a `datasets` folder or hub:OWNER/NAME")
    endings = [ending.lower() for ending in path.suffixes]
    kind = endings[-2] if endings[-1:] == [".gz"] and len(endings) > 1 else (endings or [""])[-1]
    if kind in (".csv", ".tsv"):
        return _csv(path, "\t" if kind == ".tsv" and separator == "," else separator)
    if kind == ".parquet":
        return _parquet(path)
    if kind in (".jsonl", ".ndjson"):
        return (
            _gzipped(path, skip)
            if endings[-1] == ".gz"
            else (TableRow(f"{path}, line {n}", row) for n, row in read_rows(path, skip))
        )
    if kind == ".json":
        return (TableRow(place, row) for place, row in read_list(path))
    raise InputError(f"{path}: unknown file extension; known: .jsonl, .jsonl.gz, .ndjson, .json, .csv, .tsv, .parquet")


def need_columns(rows: Iterable[TableRow], columns: Iterable[str]) -> Iterator[TableRow]:
    """Yield the rows, after checking that the first one has these columns.

    Raises ``InputError`` that names the missing columns and those of the row.
    """
    wanted = list(columns)
    for number, row in enumerate(rows):
        if number == 0 and (missing := [name for name in wanted if name not in row.values]):
            raise InputError(f"{row.place}: no column {', '.join(missing)}; the row has {_column_names(row.values)}")
        yield row


def _column_names(values: Mapping[str, Any]) -> str:
    names = list(values) or ["no columns"]
    if len(names) == 1 and (mark := next((mark for mark in ";\t|," if mark in names[0]), None)):
        return f"one column {names[0]!r} (are columns separated by {mark!r}? then give --separator)"
    return ", ".join(names)


def _csv(path: Path, separator: str) -> Iterator[TableRow]:
    """Rows of a CSV file with a header, in UTF-8 (with a byte-order mark or without)."""
    if len(separator) != 1:
        raise InputError(f"--separator {separator!r}: expected one character")
    csv.field_size_limit(LONGEST * 4)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        header: list[str] = []
        try:
            for cells in reader:
                place = f"{path}, line {reader.line_num}"
                if not header:
                    header = _header(cells, place)
                elif cells:
                    yield TableRow(place, _record(header, cells, place))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, after line {reader.line_num}: not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from error
        except csv.Error as error:
            raise InputError(
                f"{path}, line {reader.line_num}: not CSV ({error}); check the quotes, and whether the file is complete"
            ) from error


def _header(cells: list[str], place: str) -> list[str]:
    if len(set(cells)) != len(cells):
        raise InputError(f"{place}: two columns have the same name ({', '.join(cells)}); rename one")
    return cells


def _record(header: list[str], cells: list[str], place: str) -> dict[str, str]:
    if len(cells) != len(header):
        raise InputError(
            f"{place}: {len(cells)} cells, but the header has {len(header)}; "
            "put cells with separators or line ends into double quotes"
        )
    return dict(zip(header, cells, strict=True))


def _gzipped(path: Path, skip: Skip | None) -> Iterator[TableRow]:
    try:
        with gzip.open(path, "rb") as file:
            for number, row in rows_in(path, file, skip):
                yield TableRow(f"{path}, line {number}", row)
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the file is damaged ({error}); download it again") from error


def _parquet(path: Path) -> Iterator[TableRow]:
    """Rows of a Parquet file, read in batches."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow; run: {install_command('data')}") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield TableRow(f"{path}, row {number}", row)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, after row {number}: a text is not UTF-8 ({error.reason})") from error
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}, after row {number}: not a Parquet file, or damaged ({error})") from error


def _folder(path: Path, split: str) -> Iterator[TableRow]:
    datasets = load_library("datasets")
    try:
        found = datasets.load_from_disk(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: the folder is not a saved `datasets` data set") from error
    return _rows_of(_split_of(found, split, str(path)), str(path))


def _hub(name: str, split: str, revision: str) -> Iterator[TableRow]:
    datasets = load_library("datasets")
    try:
        found = datasets.load_dataset(name, split=split, revision=revision or None)
    except Exception as error:  # the library passes on errors of its backends: network, hub, format and value errors
        raise _unreadable(name, error) from error
    return _rows_of(found, f"{HUB}{name}/{split}")


def _hub_file(repository: str, file: str, revision: str) -> str:
    """Fetch one file of a data set of the hub into the hub's cache. Returns its path."""
    hub = load_library("huggingface_hub")
    try:
        return str(hub.hf_hub_download(repository, file, repo_type="dataset", revision=revision or None))
    except Exception as error:  # of the network, the hub or the cache
        raise _unreadable(f"{repository}/{file}", error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(
        f"{HUB}{name}: cannot be read ({type(error).__name__}: {error}); check name, split and network, or use a "
        "local export"
    )


def _split_of(found: Any, split: str, where: str) -> Any:
    if not isinstance(found, dict):
        return found
    if split not in found:
        raise InputError(f"{where}: no split {split!r}; splits: {', '.join(sorted(found))}")
    return found[split]


def _rows_of(rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[TableRow]:
    for number, row in enumerate(rows, 1):
        yield TableRow(f"{where}, row {number}", row)


def load_library(name: str) -> Any:
    """Import an optional library of the extra ``data``. Raises ``InputError`` with the command that installs it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"this needs the library {name}; run: {install_command('data')}") from error
