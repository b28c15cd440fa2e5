"""Applies the changes of a recipe to a run's folder, before its steps are done.

Afterwards an artifact is in place if and only if it is the one that the recipe makes. Nothing is deleted: artifacts
that the recipe does not use are set aside on the run's shelf, from which they are taken again if the recipe changes
back. A process that is killed here leaves a folder that the next one continues with.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.files.moving import drop_empty_parents
from tutelage.planning.artifacts import REPLACED, VARIANTS
from tutelage.runs.changes import Changes, StepChange, holds
from tutelage.runs.shelf import Shelf, place
from tutelage.runs.started import Started, write_started
from tutelage.runs.store import Store


def apply(changes: Changes, elsewhere: Sequence[Shelf | Store] = ()) -> None:
    """Set aside what the recipe does not use, and take what exists elsewhere. Raises StageError if the disk is full."""
    store, shelf = changes.store, Shelf(changes.store.path(REPLACED))
    for artifact, made_from in changes.adopted.items():
        if store.has(artifact):
            store.write_made_from(artifact, made_from)
        else:
            write_started(store, artifact, Started(made_from.fingerprint))
    for artifact in changes.leftover:
        shelf.set_aside(store, artifact)
    for change in changes.steps:
        artifact, fingerprint = change.step.output, change.made_from.fingerprint
        if change.fate == "kept":
            shelf.give_back(store, artifact, fingerprint)
            if store.made_from(artifact) != change.made_from:  # from other sources with the same content
                store.write_made_from(artifact, change.made_from)
            continue
        if store.has(artifact):
            shelf.set_aside(store, artifact)
        if change.fate == "taken":
            _take(change, store, shelf, elsewhere)
    _drop_unplanned_work(store, {change.step.output for change in changes.steps})


def _take(change: StepChange, store: Store, shelf: Shelf, elsewhere: Sequence[Shelf | Store]) -> None:
    artifact, fingerprint = change.step.output, change.made_from.fingerprint
    source = next(one for one in (shelf, *elsewhere) if holds(one, artifact, fingerprint))
    if isinstance(source, Shelf):
        source.fetch(store, artifact, fingerprint, keep=source != shelf)
    else:
        place(source.root, store, artifact, source.finished_steps()[artifact], change.made_from)


def _drop_unplanned_work(store: Store, planned: set[str]) -> None:
    """Delete the journals of unfinished steps that the plan does not have."""
    for journal in sorted(store.root.rglob(".*.journal")):
        relative = journal.relative_to(store.root)
        artifact = relative.with_name(relative.name.removeprefix(".").removesuffix(".journal")).as_posix()
        if artifact not in planned and relative.parts[0] != VARIANTS:
            journal.unlink(missing_ok=True)
            drop_empty_parents(journal, store.root)
