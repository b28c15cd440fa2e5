"""Applies the changes of a recipe to a run's folder, before its steps are done.

Afterwards an artifact is in place if and only if it is the one that the recipe makes. Nothing is deleted: artifacts
that the recipe does not use are set aside in a cache of the run, from which they are reused if the recipe changes back.
A process that is killed here leaves a folder that the next one continues with.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from tutelage.errors import InputError, RunLockedError
from tutelage.files.jsonl import read_json
from tutelage.files.moving import drop_empty_parents
from tutelage.planning.artifacts import MADE, REPLACED, VARIANTS, beside
from tutelage.runs.artifact_cache import ArtifactCache, place
from tutelage.runs.changes import Changes, Place, StepChange, holds
from tutelage.runs.started import Started, write_started
from tutelage.runs.store import Store


def apply(changes: Changes, elsewhere: Sequence[Place] = ()) -> None:
    """Set aside what the recipe does not use, and take what exists elsewhere. The caller holds the lock of the run.

    Raises RunLockedError if another process changed the run after the comparison, and StageError if the disk is full.
    """
    store, replaced = changes.store, ArtifactCache(changes.store.path(REPLACED))
    _check_unchanged(changes)
    for artifact, made_from in changes.adopted.items():
        if store.has(artifact):
            store.write_made_from(artifact, made_from)
        else:
            write_started(store, artifact, Started(made_from.fingerprint))
    for artifact in changes.leftover:
        replaced.set_aside(store, artifact)
    for change in changes.steps:
        artifact, fingerprint = change.step.output, change.made_from.fingerprint
        if change.state == "kept":
            replaced.give_back(store, artifact, fingerprint)
            if store.made_from(artifact) != change.made_from:  # from other sources with the same content
                store.write_made_from(artifact, change.made_from)
            continue
        if store.has(artifact):
            replaced.set_aside(store, artifact)
        if change.state == "reused":
            _take(change, store, replaced, elsewhere)
    _drop_unplanned_work(store, {change.step.output for change in changes.steps})
    _drop_remains(store)


def _check_unchanged(changes: Changes) -> None:
    for change in changes.steps:
        made_from = changes.store.made_from(change.step.output) or changes.adopted.get(change.step.output)
        in_place = made_from.fingerprint if made_from and changes.store.has(change.step.output) else None
        if in_place != change.in_place:
            raise RunLockedError(
                f"{changes.store.root}: another process changed {change.step.output} of this run in the meantime; "
                "nothing was changed by this command; run it again"
            )


def _take(change: StepChange, store: Store, replaced: ArtifactCache, elsewhere: Sequence[Place]) -> None:
    """Take an artifact from the first place that has it undamaged. If none has, the run makes it."""
    artifact, made_from = change.step.output, change.made_from
    for source in (replaced, *elsewhere):
        if isinstance(source, ArtifactCache):
            if source.fetch(store, artifact, made_from, keep=source != replaced):
                return
        elif holds(source, artifact, made_from.fingerprint):
            step = evolve(source.finished_steps()[artifact], seconds=0.0, cost=0.0)
            place(source.root, store, artifact, step, made_from)
            return


def _drop_unplanned_work(store: Store, planned: set[str]) -> None:
    """Delete the journals of unfinished steps that the plan does not have."""
    for journal in _own_files(store, ".*.journal"):
        relative = journal.relative_to(store.root)
        artifact = relative.with_name(relative.name.removeprefix(".").removesuffix(".journal")).as_posix()
        if artifact not in planned:
            journal.unlink(missing_ok=True)
            drop_empty_parents(journal, store.root)


def _drop_remains(store: Store) -> None:
    """Delete what killed processes have left: incomplete files and folders, records and files without an artifact."""
    for temporary in _own_files(store, ".*.tmp"):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        drop_empty_parents(temporary, store.root)
    for record in sorted(store.path(MADE).rglob("*.json")):
        artifact = _artifact_of(record)
        if not artifact or not store.has(artifact):
            for path in (*map(store.path, beside(artifact) if artifact else ()), record):
                path.unlink(missing_ok=True)
                drop_empty_parents(path, store.root)


def _artifact_of(record: Path) -> str:
    """The path of the artifact of a record; empty if the record is damaged."""
    try:
        return str(read_json(record)["artifact"])
    except (InputError, KeyError, TypeError):
        return ""


def _own_files(store: Store, pattern: str) -> list[Path]:
    """The files and folders in a run with a name like ``pattern``, without those of the recipe's variants."""
    return [path for path in sorted(store.root.rglob(pattern)) if path.relative_to(store.root).parts[0] != VARIANTS]
