"""The folder of a run: finished artifacts, journals of unfinished artifacts, and a lock.

An artifact is complete or does not exist: it is written beside its path, made durable and renamed. The finished items
of an unfinished step are in a journal, an append-only file of JSON lines. A last line that a kill has cut short is
ignored when the journal is read. Only the runner writes to the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from attrs import frozen

from tutelage.errors import InputError, RunLockedError
from tutelage.files.jsonl import converter, dump, read_records, write_json, write_rows
from tutelage.files.whole import commit_folder, fresh_folder
from tutelage.planning.artifacts import LOCK, RECIPE, SCRATCH, STEP_LOG

T = TypeVar("T")


@frozen
class FinishedStep:
    """The record of a finished step in the log of steps."""

    output: str
    seconds: float
    """Time that the step took in the process that finished it."""
    counts: dict[str, int]
    """Number of items, by outcome or by the reason for which they were dropped."""
    cost: float = 0.0
    """US dollars spent by the process that finished the step. Requests without a known price are not included."""


@frozen
class Store:
    """The files of one run. Methods take paths relative to the run's folder."""

    root: Path

    def path(self, relative: str) -> Path:
        """Return the full path of an artifact."""
        return self.root / relative

    def has(self, relative: str) -> bool:
        """Return whether an artifact is finished."""
        return self.path(relative).exists()

    def read(self, relative: str, cls: type[T]) -> list[T]:
        """Read the records of a finished JSON-lines artifact. Raises InputError if it is damaged."""
        return list(read_records(self.path(relative), cls))

    def write(self, relative: str, rows: Iterable[Any]) -> int:
        """Write a finished JSON-lines artifact. Returns the number of rows."""
        return write_rows(self.path(relative), rows)

    def write_json(self, relative: str, value: Any) -> None:
        """Write a finished JSON artifact."""
        write_json(self.path(relative), value)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run against other processes. Raises RunLockedError with the process that holds the lock.

        The operating system releases the lock when the process ends, even if it is killed.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self.path(LOCK).open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise RunLockedError(
                    f"{self.root}: process {owner} is working on this run; wait for it, or name another with --run"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def journal(self, relative: str, cls: type[T]) -> Journal[T]:
        """Return the journal of an unfinished JSON-lines artifact."""
        path = self.path(relative)
        return Journal(path.with_name(f".{path.name}.journal"), cls, relative)

    def note_step(self, output: str, seconds: float, counts: Mapping[str, int], cost: float = 0.0) -> None:
        """Append the record of a step to the log, before its artifact is renamed to its path."""
        log = Journal(self.path(STEP_LOG), FinishedStep)
        log.append([FinishedStep(output, round(seconds, 3), dict(counts), cost)])
        log.close()

    def finished_steps(self) -> dict[str, FinishedStep]:
        """Return the records of all steps whose artifacts exist, by output, in the order in which they finished."""
        records = {step.output: step for step in Journal(self.path(STEP_LOG), FinishedStep)}
        return {output: step for output, step in records.items() if self.has(output)}

    def drop_journal(self, relative: str) -> None:
        """Delete the journal of a finished artifact, which remains after a kill just after the artifact was renamed."""
        self.journal(relative, dict).discard()

    def scratch(self, relative: str) -> Path:
        """Return the folder for the temporary files of the step that makes this artifact.

        It survives a kill, so that the next attempt of the step can use the files.
        """
        folder = self.path(SCRATCH) / relative
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
        self._file: IO[str] | None = None

    def __iter__(self) -> Iterator[T]:
        """Yield the items so far. A last line without a line break was cut short by a kill and is ignored."""
        if not self.path.exists():
            return
        structure = converter().structure
        for line in self._complete_lines().splitlines():
            yield structure(json.loads(line), self.cls)

    def _complete_lines(self) -> bytes:
        data = self.path.read_bytes()
        return data[: data.rfind(b"\n") + 1]

    def append(self, rows: Iterable[T]) -> None:
        """Append items and make them durable before the call returns."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                # An incomplete last line is removed here and not in __iter__, so that reading never writes.
                os.truncate(self.path, len(self._complete_lines()))
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write("".join(dump(row) + "\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. ``append`` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close and delete the journal, after its artifact is finished."""
        self.close()
        self.path.unlink(missing_ok=True)


def open_run(root: Path) -> Store:
    """Return the store of an existing run. Raises InputError if the folder contains no run."""
    if not is_run(root):
        raise InputError(f"{root}: contains no run ({RECIPE} is missing); `tutelage run --run {root}` starts one")
    return Store(root)


def is_run(root: Path) -> bool:
    """Return whether a folder contains a run."""
    return (root / RECIPE).is_file()
