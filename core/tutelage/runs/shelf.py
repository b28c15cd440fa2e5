"""A shelf: a folder with finished artifacts by fingerprint.

A run has one for the artifacts that a changed recipe does not use any more. Several runs can share another one as their
cache. An artifact on a shelf is a folder named by its fingerprint, which contains the artifact at the path that it has
in a run, what was recorded about it, and, in last place, the artifact itself: without it, the rest does not count.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attrs import evolve, frozen

from tutelage.errors import InputError
from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import converter, read_json, write_json
from tutelage.files.moving import drop_empty_parents, link_or_copy, size_of
from tutelage.files.moving import move as move_file
from tutelage.planning.artifacts import beside, record_of
from tutelage.planning.made_from import MadeFrom
from tutelage.runs.integrity import FinishedStep
from tutelage.runs.store import Store

_STEP = "step.json"
"""The row of the log of steps."""


@frozen
class Shelved:
    """One artifact on a shelf."""

    fingerprint: str
    artifact: str
    """Path of the artifact in a run."""
    bytes: int


@frozen
class Shelf:
    """A folder with finished artifacts by fingerprint."""

    root: Path

    def has(self, fingerprint: str, artifact: str) -> bool:
        """Return whether the shelf has the artifact with this fingerprint."""
        return (self.root / fingerprint / artifact).exists()

    def set_aside(self, store: Store, artifact: str) -> None:
        """Move an artifact with its record from a run to the shelf. After a kill, calling it again continues."""
        made_from = store.made_from(artifact)
        if made_from is None:
            raise ValueError(f"{artifact} has no record")
        folder = self.root / made_from.fingerprint
        if self.has(made_from.fingerprint, artifact):
            with writing(folder):
                shutil.rmtree(folder)
        self._write_notes(folder, store, artifact)
        for path in (*beside(artifact), artifact):
            move_file(store.path(path), folder / path)
        store.path(record_of(artifact)).unlink(missing_ok=True)
        drop_empty_parents(store.path(artifact), store.root)

    def put(self, store: Store, artifact: str) -> None:
        """Add an artifact of a run to the shelf, as links to the same files or as a copy. The run keeps it.

        Several processes may add the same artifact at the same time.
        """
        made_from = store.made_from(artifact)
        if made_from is None or self.has(made_from.fingerprint, artifact):
            return
        temporary = self.root / f".{made_from.fingerprint}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        self._write_notes(temporary, store, artifact)
        for path in (*beside(artifact), artifact):
            link_or_copy(store.path(path), temporary / path)
        try:
            temporary.rename(self.root / made_from.fingerprint)
        except OSError:  # another process was faster
            shutil.rmtree(temporary, ignore_errors=True)

    def fetch(self, store: Store, artifact: str, fingerprint: str, keep: bool) -> None:
        """Write an artifact of the shelf, which must exist, to its path in a run. ``keep``: the shelf keeps it, too."""
        folder = self.root / fingerprint
        place(folder, store, artifact, self._step(fingerprint), self._made_from(fingerprint), move=not keep)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)

    def give_back(self, store: Store, artifact: str, fingerprint: str) -> None:
        """Undo ``set_aside`` for an artifact of which only the files beside it were moved before a kill."""
        folder = self.root / fingerprint
        if folder.exists() and not self.has(fingerprint, artifact):
            for path in beside(artifact):
                move_file(folder / path, store.path(path))
            shutil.rmtree(folder, ignore_errors=True)

    def contents(self) -> Iterator[Shelved]:
        """Yield the artifacts on the shelf."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        for folder in folders:
            artifact = str(read_json(folder / _STEP)["output"]) if (folder / _STEP).exists() else ""
            yield Shelved(folder.name, artifact, size_of(folder))

    def clear(self) -> None:
        """Delete everything on the shelf."""
        with writing(self.root), suppress(FileNotFoundError):
            shutil.rmtree(self.root)

    def _write_notes(self, folder: Path, store: Store, artifact: str) -> None:
        step = store.finished_steps().get(artifact) or FinishedStep(artifact, 0.0, {})
        made_from = store.made_from(artifact)
        write_json(folder / _STEP, step)
        write_json(folder / "made_from.json", made_from)

    def _step(self, fingerprint: str) -> FinishedStep:
        return converter().structure(read_json(self.root / fingerprint / _STEP), FinishedStep)

    def _made_from(self, fingerprint: str) -> MadeFrom:
        return converter().structure(read_json(self.root / fingerprint / "made_from.json"), MadeFrom)


def place(
    source: Path, store: Store, artifact: str, step: FinishedStep, made_from: MadeFrom, move: bool = False
) -> None:
    """Write an artifact from the same path in another folder to a run, with its record; the artifact itself last.

    With ``move``, the files are moved; otherwise they are linked or copied. The cost counts once, where it was paid.
    """
    store.write_made_from(artifact, made_from)
    store.log(step if move else evolve(step, seconds=0.0, cost=0.0))
    transfer = move_file if move else link_or_copy
    for path in (*beside(artifact), artifact):
        transfer(source / path, store.path(path))


def checked_shelf(folder: Path) -> Shelf:
    """Return the shelf in a folder that the user names, which is made if it does not exist.

    Raises InputError if it cannot be written to.
    """
    with writing(folder, InputError):
        folder.mkdir(parents=True, exist_ok=True)
    return Shelf(folder)
