"""The folder of a run: finished artifacts, journals of unfinished artifacts, and a lock.

An artifact is complete or does not exist: it is written beside its path, made durable and renamed. The finished items
of an unfinished step are in a journal, an append-only file of JSON lines. A last line that a kill has cut short is
ignored when the journal is read. Only the runner writes to the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from functools import cache, lru_cache
from io import FileIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import BaseValidationError

from tutelage.errors import InputError, RunLockedError, StageError
from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import converter, dump, read_json, read_records, rows_in, write_json, write_rows
from tutelage.files.jsonl import record_of as structured
from tutelage.files.locking import LockHeldError, hold_lock
from tutelage.files.whole import commit_folder, fresh_folder
from tutelage.planning.artifacts import LOCK, RECIPE, SCRATCH, STEP_LOG, metrics_beside, record_of
from tutelage.planning.made_from import MadeFrom
from tutelage.runs.integrity import FinishedStep, artifact_problems, durable_records_of
from tutelage.runs.kept_records import KeptRecords

T = TypeVar("T")

_KEPT_BYTES = 2**22
"""Largest file of which the records are kept in memory."""
_kept_records = KeptRecords(size=2**25)  # the embedded run has 12 MB


@frozen
class Store:
    """The files of one run. Methods take paths relative to the run's folder."""

    root: Path
    """Folder of the run."""

    def path(self, relative: str) -> Path:
        """Return the full path of an artifact."""
        return self.root / relative

    def has(self, relative: str) -> bool:
        """Return whether an artifact is finished."""
        return self.path(relative).exists()

    def read(self, relative: str, cls: type[T]) -> list[T]:
        """Return the records of a finished JSON-lines artifact. Raises InputError if it is invalid or truncated.

        The records of small artifacts are kept in memory, because several steps, the summary and the report read them,
        except those with a field that a plugin may change, such as ``metadata``.
        """
        path = self.complete(relative)
        with suppress(OSError):
            stat = path.stat()
            kind: Any = cls  # mypy takes no ``type[T]`` for hashable
            if stat.st_size <= _KEPT_BYTES and _is_immutable(kind):
                return list(_kept_records.read(path, kind, stat))
        return list(read_records(path, cls))

    def complete(self, relative: str) -> Path:
        """Return the path of a finished artifact that is read, after a check that none of it is missing.

        A JSON-lines file must have as many rows as the log of steps records, the files of a folder their recorded
        sizes. Raises InputError that names the artifact and how to make it again.
        """
        if problems := self.problems(relative, checksums=False):
            raise InputError("\n".join(problems))
        return self.path(relative)

    def problems(self, relative: str, checksums: bool) -> list[str]:
        """Return the differences between a finished artifact and its record; with ``checksums``, contents are compared.

        Empty if there are none, or if nothing is recorded, as in runs of earlier versions.
        """
        path, step = self.path(relative), self._records().get(relative)
        if step is None or not path.exists():
            return []
        found = artifact_problems(path, self.path(metrics_beside(relative)), step, checksums)
        kind = "folder" if path.is_dir() else "file"
        return [
            f"{problem}, so it was truncated or changed; delete the {kind} {path}, and "
            f"`tutelage run --run {self.root}` makes it again"
            for problem in found
        ]

    def write(self, relative: str, rows: Iterable[Any]) -> int:
        """Write a finished JSON-lines artifact. Returns the number of rows."""
        return write_rows(self.path(relative), rows)

    def write_json(self, relative: str, value: Any) -> None:
        """Write a finished JSON artifact."""
        write_json(self.path(relative), value)

    def made_from(self, relative: str) -> MadeFrom | None:
        """Return what a finished artifact was made from.

        None if the artifact does not exist, or was made by a version that did not record it. Raises InputError if the
        record is damaged.
        """
        path = self.path(record_of(relative))
        if not self.has(relative) or not path.exists():
            return None
        try:
            return converter().structure(read_json(path)["made_from"], MadeFrom)
        except (InputError, KeyError, TypeError, BaseValidationError) as error:
            raise InputError(
                f"{path}: not a record of an artifact; delete this file, and {relative} counts as made from "
                f"{self.path(RECIPE)}, or delete {relative}, too, and `tutelage run --run {self.root}` makes it again"
            ) from error

    def write_made_from(self, relative: str, made_from: MadeFrom) -> None:
        """Record what an artifact is made from, before the artifact is written to its path."""
        record = {"schema": 1, "artifact": relative, "fingerprint": made_from.fingerprint, "made_from": made_from}
        self.write_json(record_of(relative), record)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run against other processes. Raises RunLockedError with the process that holds the lock,
        and InputError if the folder cannot be written to.

        The operating system releases the lock when the process ends, even if it is killed.
        """
        with ExitStack() as held:
            try:
                with writing(self.path(LOCK), InputError):
                    self.root.mkdir(parents=True, exist_ok=True)
                    held.enter_context(hold_lock(self.path(LOCK)))
            except LockHeldError as error:
                raise RunLockedError(
                    f"{self.root}: process {error.process or 'unknown'} is working on this run; wait for it, "
                    "or name another with --run"
                ) from error
            yield

    def journal(self, relative: str, cls: type[T]) -> Journal[T]:
        """Return the journal of an unfinished JSON-lines artifact."""
        path = self.path(relative)
        return Journal(path.with_name(f".{path.name}.journal"), cls, relative)

    def note_step(
        self,
        output: str,
        seconds: float,
        counts: Mapping[str, int],
        cost: float = 0.0,
        rows: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Append the record of a step to the log, before its artifact is renamed to its path.

        ``rows`` is the number of rows of a JSON-lines artifact, ``folder`` the temporary folder of a folder artifact,
        whose files are made durable.
        """
        with writing(self.path(output)):
            files = durable_records_of(folder) if folder else {}
        self.log(FinishedStep(output, round(seconds, 3), dict(counts), cost, rows, files))

    def log(self, step: FinishedStep) -> None:
        """Append a record to the log of steps."""
        log = Journal(self.path(STEP_LOG), FinishedStep)
        log.append([step])
        log.close()

    def finished_steps(self) -> dict[str, FinishedStep]:
        """Return the records of all steps whose artifacts exist, by output, in the order in which they finished."""
        return {output: step for output, step in self._records().items() if self.has(output)}

    def _records(self) -> Mapping[str, FinishedStep]:
        """Return the last record of each output in the log of steps."""
        log = self.path(STEP_LOG)
        try:
            stat = log.stat()
        except OSError:
            return {}
        return _records_of(log, stat.st_mtime_ns, stat.st_size)

    def drop_journal(self, relative: str) -> None:
        """Delete the journal of a finished artifact, which remains after a kill just after the artifact was renamed."""
        self.journal(relative, dict).discard()

    def scratch(self, relative: str) -> Path:
        """Return the folder for the temporary files of the step that makes this artifact.

        It survives a kill, so that the next attempt of the step can use the files.
        """
        folder = self.path(SCRATCH) / relative
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_scratch(self, relative: str = "") -> None:
        """Delete the temporary files of a finished step; by default those of all steps."""
        shutil.rmtree(self.path(SCRATCH) / relative, ignore_errors=True)

    def fresh_folder(self, relative: str) -> Path:
        """Return an empty folder beside the path of a folder artifact, for ``rename`` to commit when it is complete."""
        return fresh_folder(self.path(relative))

    def rename(self, temporary: Path, relative: str) -> None:
        """Make a complete folder durable and rename it to the path of the artifact."""
        commit_folder(temporary, self.path(relative))


class Journal(Iterable[T]):
    """The finished items of an unfinished step, one JSON line per item."""

    def __init__(self, path: Path, cls: type[T], artifact: str = "") -> None:
        self.path = path
        self.cls = cls
        self.artifact = artifact or path.name
        """Path of the artifact, for error messages."""
        self._file: FileIO | None = None
        self._size = 0
        """Bytes of the complete lines."""

    def __iter__(self) -> Iterator[T]:
        """Yield the items so far. A last line without a line break was cut short by a kill and is ignored.

        Raises StageError with the line if the file is damaged.
        """
        if not self.path.exists():
            return
        try:
            for number, row in rows_in(self.path, self._complete_lines().splitlines(keepends=True)):
                yield structured(self.path, number, row, self.cls)
        except InputError as error:
            raise StageError(
                f"{error}; delete this line, and the same command makes that part of {self.artifact} again"
            ) from error

    def _complete_lines(self) -> bytes:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise StageError(f"{self.path}: cannot be read ({error.strerror}); check the file") from error
        return data[: data.rfind(b"\n") + 1]

    def append(self, rows: Iterable[T]) -> None:
        """Append items and make them durable before the call returns. Raises StageError if the disk does not take them.

        The file has all of them or, after an error, none.
        """
        lines = "".join(dump(row) + "\n" for row in rows).encode()
        with writing(self.path):
            file = self._file = self._file or self._opened()
            try:
                _write_all(file, lines)
                os.fsync(file.fileno())
            except BaseException:
                self._drop_incomplete(file)
                raise
        self._size += len(lines)

    def _opened(self) -> FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # An incomplete last line is removed here and not in __iter__, so that reading never writes.
        self._size = len(self._complete_lines()) if self.path.exists() else 0
        file = FileIO(self.path, "a")
        file.truncate(self._size)
        return file

    def _drop_incomplete(self, file: FileIO) -> None:
        with suppress(OSError):
            file.truncate(self._size)
        self._file = None
        with suppress(OSError):
            file.close()

    def close(self) -> None:
        """Close the file. ``append`` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close and delete the journal, after its artifact is finished."""
        self.close()
        with writing(self.path):
            self.path.unlink(missing_ok=True)


def _write_all(file: FileIO, data: bytes) -> None:
    """Write without a buffer: after an error, a buffer would be written again when the file is closed."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


@cache
def _is_immutable(kind: Any) -> bool:
    """Whether the values of a type cannot be changed: plain values, and tuples and records of these."""
    if attrs.has(kind):
        return all(_is_immutable(field.type) for field in attrs.fields(attrs.resolve_types(kind)))
    if (origin := get_origin(kind)) is Literal:
        return True
    if origin in (tuple, Union, UnionType):
        return all(part is ... or _is_immutable(part) for part in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, str | int | float | Enum | NoneType)


@lru_cache(maxsize=8)
def _records_of(log: Path, changed: int, size: int) -> Mapping[str, FinishedStep]:
    """Return the last record of each output in a log of steps, read once for each state of the file."""
    return {step.output: step for step in Journal(log, FinishedStep)}


def open_run(root: Path) -> Store:
    """Return the store of an existing run. Raises InputError if the folder contains no run."""
    if not is_run(root):
        raise InputError(
            f"{root}: contains no run ({RECIPE} is missing); `tutelage run RECIPE --run {root}` starts one"
        )
    return Store(root)


def is_run(root: Path) -> bool:
    """Return whether a folder contains a run."""
    return (root / RECIPE).is_file()
