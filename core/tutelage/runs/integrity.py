"""What the log of steps records of a finished artifact, to find one that was truncated or changed afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import field, frozen

from tutelage.files.digests import sha256_of_each
from tutelage.files.whole import make_folder_durable
from tutelage.records import Outcome

_OUTCOMES = {str(outcome) for outcome in Outcome}
_ROWS_FIRST = {"pairs", "prompts", "answers"}
"""Names of counts that are the number of rows of the artifact, if they come first."""


@frozen
class FileRecord:
    """One file of a finished folder."""

    bytes: int
    sha256: str


@frozen
class FinishedStep:
    """The record of a finished step in the log of steps."""

    output: str
    seconds: float
    """Time that all processes together worked on the step."""
    counts: dict[str, int]
    """Number of items, by outcome or by the reason for which they were dropped."""
    cost: float = 0.0
    """US dollars that all processes together spent on the step. Requests without a known price are not included."""
    rows: int | None = None
    """Number of rows of the artifact, if it is a JSON-lines file. Earlier versions do not record it."""
    files: dict[str, FileRecord] = field(factory=dict)
    """The files of the artifact by their paths in it, if it is a folder. Earlier versions do not record them."""

    @property
    def expected_rows(self) -> int | None:
        """The number of rows of the artifact, from the counts if it is not recorded; None if it is unknown."""
        if self.rows is not None or self.files or not self.counts:
            return self.rows
        if self.counts.keys() <= _OUTCOMES:
            return sum(self.counts.values())
        first = next(iter(self.counts))
        return self.counts[first] if first in _ROWS_FIRST else None


def durable_records_of(folder: Path) -> dict[str, FileRecord]:
    """Make every file in a folder durable; returns the size and the checksum of each.

    The checksums are computed while the disk writes. Raises ``OSError`` if a file cannot be read or written.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with ThreadPoolExecutor(1) as thread:
        durable = thread.submit(make_folder_durable, folder)
        checksums = sha256_of_each(files)
        durable.result()
    return {
        file.relative_to(folder).as_posix(): FileRecord(file.stat().st_size, checksum)
        for file, checksum in zip(files, checksums, strict=True)
    }


def artifact_problems(path: Path, metrics: Path, step: FinishedStep, checksums: bool) -> list[str]:
    """Return what is wrong with an artifact, according to its row in the log of steps.

    ``metrics`` is the path of the metrics of a checkpoint. With ``checksums``, the contents of a folder are compared.
    """
    try:
        if path.is_dir():
            found = list(file_problems(path, step.files, checksums))
            return found + list(row_problems(metrics, step.counts.get("steps")))
        return list(row_problems(path, step.expected_rows))
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]


def row_problems(path: Path, expected: int | None) -> Iterator[str]:
    """Yield what is wrong with the number of rows of a JSON-lines file. Raises ``OSError`` if it cannot be read."""
    if expected is not None and (rows := _rows_in(path)) != expected:
        yield f"{path} has {rows:,} rows, but {expected:,} were written"


def _rows_in(path: Path) -> int:
    """Return the number of rows of a JSON-lines file. An incomplete last line is no row."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def file_problems(folder: Path, files: Mapping[str, FileRecord], checksums: bool) -> Iterator[str]:
    """Yield what is wrong with the files of a folder: missing, of another size, with ``checksums`` of other content.

    Raises ``OSError`` if a file cannot be read.
    """
    whole: list[Path] = []
    for name, record in files.items():
        file = folder / name
        if not file.is_file():
            yield f"{file} is missing"
        elif (size := file.stat().st_size) != record.bytes:
            yield f"{file} has {size:,} bytes, but {record.bytes:,} were written"
        else:
            whole.append(file)
    if checksums:
        for file, checksum in zip(whole, sha256_of_each(whole), strict=True):
            if checksum != files[file.relative_to(folder).as_posix()].sha256:
                yield f"{file} has another checksum (SHA-256) than the file that was written"
