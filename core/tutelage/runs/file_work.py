"""Work over files without a recipe: durable in a folder, continued by the same call, asked once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.files.jsonl import read_records, write_rows
from tutelage.records import Outcome
from tutelage.runs.durable import Ask, Result, Unit, in_chunks, one_by_one
from tutelage.runs.store import Store

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", bound=Result)

CHUNK = 128
"""Items of local work that are durable together."""


def finish(
    path: Path, cls: type[ResultT], units: Sequence[Unit[ItemT]], ask: Ask[ItemT, ResultT], item_by_item: bool
) -> list[ResultT]:
    """The results of all units, sorted by id: from ``path`` what is there, the others asked and put there.

    A failed item is asked again; a result of ``path`` that no unit needs is dropped. ``item_by_item`` is the plugin's:
    True for an API. Raises ``RunLockedError`` where another process works in the folder, and what ``ask`` raises.
    """
    wanted = {id for unit in units for id in unit.results}
    store = Store(path.parent)
    with store.lock():
        kept = read_records(path, cls) if path.exists() else ()
        done = {result.id: result for result in kept if result.id in wanted and result.outcome is not Outcome.FAILED}
        left = [unit for unit in units if any(id not in done for id in unit.results)]
        if left or not path.exists():
            journal = store.journal(path.name, cls)
            results = one_by_one(left, ask, journal) if item_by_item else in_chunks(left, CHUNK, ask, journal)
            done |= {result.id: result for result in results if result.id in wanted}
            if missing := wanted - done.keys():
                raise StageError(f"{path}: stopped with {len(missing)} to come; the same call continues")
            write_rows(path, sorted(done.values(), key=lambda result: result.id))
            journal.discard()
    return sorted(done.values(), key=lambda result: result.id)


def counted(results: Iterable[ResultT], context: Context) -> Iterator[ResultT]:
    """Pass results on, each of them one step of progress."""
    for result in results:
        context.advance(1)
        yield result


def quiet(context: Context) -> Context:
    """The same surroundings for a plugin whose results are counted here."""
    return evolve(context, advance=lambda _: None, expect=lambda _: None)
