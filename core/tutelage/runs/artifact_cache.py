"""A folder with finished artifacts by fingerprint, as build systems keep one.

A run has one for the artifacts that a changed recipe does not use any more. Several runs can share another one as their
cache. An artifact in a cache is a folder named by its fingerprint, which contains the artifact at the path that it has
in a run, what was recorded about it, and, in last place, the artifact itself: without it, the rest does not count.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attrs import evolve, frozen
from cattrs import BaseValidationError

from tutelage.errors import InputError
from tutelage.files.disk_errors import check_writable, writing
from tutelage.files.jsonl import converter, read_json, write_json
from tutelage.files.moving import drop_empty_parents, link_or_copy, size_of
from tutelage.files.moving import move as move_file
from tutelage.planning.artifacts import beside, metrics_beside, record_of
from tutelage.planning.made_from import MadeFrom
from tutelage.runs.integrity import FinishedStep, artifact_problems
from tutelage.runs.store import Store

_STEP = "step.json"
"""The row of the log of steps."""
_MADE_FROM = "made_from.json"
"""What the artifact was made from, for readers of the folder."""


@frozen
class CachedArtifact:
    """One artifact in a cache."""

    fingerprint: str
    artifact: str
    """Path of the artifact in a run."""
    bytes: int


@frozen
class ArtifactCache:
    """A folder with finished artifacts by fingerprint."""

    root: Path

    def has(self, fingerprint: str, artifact: str) -> bool:
        """Return whether the cache has the artifact with this fingerprint, and its row of the log of steps."""
        return (self.root / fingerprint / artifact).exists() and self._step(fingerprint) is not None

    def set_aside(self, store: Store, artifact: str) -> None:
        """Move an artifact with its record from a run to the cache. After a kill, calling it again continues."""
        made_from = store.made_from(artifact)
        if made_from is None:
            raise ValueError(f"{artifact} has no record")
        folder = self.root / made_from.fingerprint
        if (folder / artifact).exists():
            with writing(folder):
                shutil.rmtree(folder)
        self._write_notes(folder, store, artifact)
        for path in (*beside(artifact), artifact):
            move_file(store.path(path), folder / path)
        for path in (artifact, record_of(artifact)):
            store.path(path).unlink(missing_ok=True)
            drop_empty_parents(store.path(path), store.root)

    def put(self, store: Store, artifact: str) -> None:
        """Add an artifact of a run to the cache, as links to the same files or as a copy. The run keeps it.

        Several processes may add the same artifact at the same time. An incomplete entry is replaced.
        """
        made_from = store.made_from(artifact)
        if made_from is None or self.has(made_from.fingerprint, artifact):
            return
        folder, temporary = self.root / made_from.fingerprint, self.root / f".{made_from.fingerprint}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self._write_notes(temporary, store, artifact)
            for path in (*beside(artifact), artifact):
                link_or_copy(store.path(path), temporary / path)
            if not self.has(made_from.fingerprint, artifact):
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process was faster
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def fetch(self, store: Store, artifact: str, made_from: MadeFrom, keep: bool) -> bool:
        """Write an artifact of the cache to its path in a run. ``keep``: the cache keeps it, too.

        Returns false if the cache does not have it, or if it is damaged: then it is deleted from the cache.
        """
        folder = self.root / made_from.fingerprint
        step = self._step(made_from.fingerprint)
        if step is None or not (folder / artifact).exists():
            return False
        is_intact = not artifact_problems(folder / artifact, folder / metrics_beside(artifact), step, checksums=True)
        if is_intact:
            # Linked and not moved: after a kill, the cache still has all files of the artifact.
            place(folder, store, artifact, evolve(step, seconds=0.0, cost=0.0) if keep else step, made_from)
        if not (keep and is_intact):
            shutil.rmtree(folder, ignore_errors=True)
        return is_intact

    def give_back(self, store: Store, artifact: str, fingerprint: str) -> None:
        """Undo ``set_aside`` for an artifact of which only the files beside it were moved before a kill."""
        folder = self.root / fingerprint
        if folder.exists() and not self.has(fingerprint, artifact):
            for path in beside(artifact):
                move_file(folder / path, store.path(path))
            shutil.rmtree(folder, ignore_errors=True)

    def contents(self) -> Iterator[CachedArtifact]:
        """Yield the artifacts in the cache."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        for folder in folders:
            step = self._step(folder.name)
            yield CachedArtifact(folder.name, step.output if step else "", size_of(folder))

    def clear(self) -> None:
        """Delete everything in the cache."""
        with writing(self.root), suppress(FileNotFoundError):
            shutil.rmtree(self.root)

    def _write_notes(self, folder: Path, store: Store, artifact: str) -> None:
        step = store.finished_steps().get(artifact) or FinishedStep(artifact, 0.0, {})
        write_json(folder / _STEP, step)
        write_json(folder / _MADE_FROM, store.made_from(artifact))

    def _step(self, fingerprint: str) -> FinishedStep | None:
        """The row of the log of steps; None if it is missing or damaged."""
        try:
            return converter().structure(read_json(self.root / fingerprint / _STEP), FinishedStep)
        except (InputError, BaseValidationError):
            return None


def place(source: Path, store: Store, artifact: str, step: FinishedStep, made_from: MadeFrom) -> None:
    """Link or copy an artifact from the same path in another folder to a run; the artifact itself comes last.

    ``step`` is its row for the log of steps, ``made_from`` its record.
    """
    store.write_made_from(artifact, made_from)
    store.log(step)
    for path in (*beside(artifact), artifact):
        link_or_copy(source / path, store.path(path))


def checked_cache(folder: Path) -> ArtifactCache:
    """Return the cache in a folder that the user names, which is made if it does not exist.

    Raises InputError if it cannot be written to.
    """
    with writing(folder, InputError):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder / _STEP)
    return ArtifactCache(folder)
