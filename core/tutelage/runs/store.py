"""A run directory: finished artifacts, journals of unfinished ones, and a lock.

An artifact is there whole or not at all: it is written beside its place, made durable and renamed. While a step works,
its finished items stand in a journal, a file of JSON lines that only grows; a line that a kill cut short is dropped
when it is read again. Only the runner writes here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from attrs import frozen

from tutelage.errors import InputError, RunLockedError
from tutelage.files.jsonl import dump, read_records, record_of, rows_in, write_json, write_rows
from tutelage.files.whole import commit_folder, fresh_folder
from tutelage.planning.artifacts import LOCK, RECIPE, SCRATCH, STEP_LOG

T = TypeVar("T")


@frozen
class FinishedStep:
    """What is noted of a finished step."""

    output: str
    seconds: float
    """Of the process that finished it."""
    counts: dict[str, int]
    """What became of its items, by outcome or by the reason for which they were dropped."""
    cost: float = 0.0
    """US dollars that it cost in this process, as far as prices are known."""


@frozen
class Store:
    """One run on disk. Paths that its methods take are relative to the run."""

    root: Path

    def path(self, relative: str) -> Path:
        """Where an artifact lies."""
        return self.root / relative

    def has(self, relative: str) -> bool:
        """Whether an artifact is finished."""
        return self.path(relative).exists()

    def read(self, relative: str, cls: type[T]) -> list[T]:
        """The records of a finished JSON-lines artifact. Raises InputError where it is damaged."""
        return list(read_records(self.path(relative), cls))

    def write(self, relative: str, rows: Iterable[Any]) -> int:
        """Write a finished JSON-lines artifact; returns its number of rows."""
        return write_rows(self.path(relative), rows)

    def write_json(self, relative: str, value: Any) -> None:
        """Write a finished JSON artifact."""
        write_json(self.path(relative), value)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process off this run. Raises RunLockedError naming the one that works on it.

        The lock belongs to the process: it is gone when the process is, however it ended.
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
        """The journal of an unfinished JSON-lines artifact."""
        path = self.path(relative)
        return Journal(path.with_name(f".{path.name}.journal"), cls, relative)

    def note_step(self, output: str, seconds: float, counts: Mapping[str, int], cost: float = 0.0) -> None:
        """Note what became of a step's items, before its artifact is put into its place."""
        log = Journal(self.path(STEP_LOG), FinishedStep)
        log.append([FinishedStep(output, round(seconds, 3), dict(counts), cost)])
        log.close()

    def finished_steps(self) -> dict[str, FinishedStep]:
        """The notes of all steps whose artifacts are there, by output, in the order in which they were finished."""
        notes = {step.output: step for step in Journal(self.path(STEP_LOG), FinishedStep)}
        return {output: step for output, step in notes.items() if self.has(output)}

    def drop_journal(self, relative: str) -> None:
        """Remove the journal of a finished artifact: a kill just after the artifact took its place leaves it behind."""
        self.journal(relative, dict).discard()

    def scratch(self, relative: str) -> Path:
        """The folder for temporary files of the step that makes this artifact; it outlives a kill, for the next try."""
        folder = self.path(SCRATCH) / relative
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_scratch(self, relative: str = "") -> None:
        """Remove the temporary files of a finished step, or of all steps."""
        shutil.rmtree(self.path(SCRATCH) / relative, ignore_errors=True)

    def fresh_folder(self, relative: str) -> Path:
        """An empty folder beside the place of a folder artifact, for ``rename`` to put there when it is whole."""
        return fresh_folder(self.path(relative))

    def rename(self, temporary: Path, relative: str) -> None:
        """Make a whole folder durable and put it into its place."""
        commit_folder(temporary, self.path(relative))


class Journal(Iterable[T]):
    """The finished items of an unfinished step, one JSON line each."""

    def __init__(self, path: Path, cls: type[T], artifact: str = "") -> None:
        self.path = path
        self.cls = cls
        self.artifact = artifact or path.name
        """The artifact that it becomes, for messages."""
        self._file: IO[str] | None = None

    def __iter__(self) -> Iterator[T]:
        """The items so far. A last line without its end was cut by a kill, and is not an item."""
        if not self.path.exists():
            return
        for number, row in rows_in(self.path, self._whole_lines().splitlines(keepends=True)):
            yield record_of(self.path, number, row, self.cls)

    def _whole_lines(self) -> bytes:
        data = self.path.read_bytes()
        return data[: data.rfind(b"\n") + 1]

    def append(self, rows: Iterable[T]) -> None:
        """Add items and make them durable before this returns."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                os.truncate(self.path, len(self._whole_lines()))  # here, so that reading never writes
            self._file = self.path.open("a", encoding="utf-8")
        self._file.write("".join(dump(row) + "\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; ``append`` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close and remove it: the finished artifact has taken its place."""
        self.close()
        self.path.unlink(missing_ok=True)


def open_run(root: Path) -> Store:
    """The store of an existing run. Raises InputError where the folder holds none."""
    if not is_run(root):
        raise InputError(f"{root}: no run is there ({RECIPE} is missing); `tutelage run --run {root}` makes one")
    return Store(root)


def is_run(root: Path) -> bool:
    """Whether a folder holds a run."""
    return (root / RECIPE).is_file()
