"""The one durable way to ask a model: every result that was finished survives a kill and is not asked for again.

An API's answers are kept one by one as they arrive. Local work is kept in chunks that the caller fixes, and a chunk
that was not finished is done again as a whole: a batch of another composition pads differently, which changes logits in
the last digits, so a resumed run would end with other artifacts than an undisturbed one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import Interrupted, StageError
from tutelage.files.jsonl import read_records, write_rows
from tutelage.plugin.registry import Registry
from tutelage.records import Model, Outcome, Sampling
from tutelage.runs.failures import unless_all_failed
from tutelage.runs.store import Journal, Store

CHUNK = 128
"""Items of local work that are kept together, where no recipe sets another number."""
STOPPED = "stopped as asked; finished work is kept, and the same command continues"


class Result(Protocol):
    """A record that a stage yields."""

    @property
    def id(self) -> str:
        """Unique within the artifact."""

    @property
    def outcome(self) -> Outcome:
        """Whether the question was answered, and if not, why."""


ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", bound=Result)


@frozen
class Unit(Generic[ItemT]):
    """One item to ask about, and the ids of all results that it gives."""

    item: ItemT
    results: tuple[str, ...]


Ask = Callable[[Sequence[ItemT], int], Iterator[ResultT]]
"""Asks for the results of some items; the number is the chunk's, from which its seed is derived."""
Stage = Callable[..., Iterator[Any]]
"""One of ``plugin.stages``: called with (registry, model, items, sampling=, context=) and its own arguments."""


@frozen
class DurableStage:
    """A stage of one model, asked durably: progress, seeds, cancellation and chunks are the same for all callers."""

    registry: Registry
    model: Model
    context: Context
    chunk: int = CHUNK
    """Items of local work that are kept together."""

    @property
    def item_by_item(self) -> bool:
        """Whether each result is kept by itself, as the plugin of an API wants it."""
        return self.registry.info(self.model.plugin).item_by_item

    def results(
        self,
        journal: Journal[ResultT],
        units: Sequence[Unit[ItemT]],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object] | None,
        **arguments: Any,
    ) -> Iterator[ResultT]:
        """The results of all units, those kept in the journal included, in any order.

        ``seed`` are the names and numbers from which each chunk's seed is derived; None leaves the sampling as it is.
        Raises Interrupted if the user asked to stop, and what the stage raises.
        """
        ask = self._asking(journal, stage, sampling, seed, arguments)
        if self.item_by_item:
            yield from one_by_one(units, ask, journal, refusals=not self.context.caller.ask_refused_again)
        else:
            yield from in_chunks(units, self.chunk, ask, journal)
        self._stop_if_asked(journal)

    def rounds(
        self,
        journal: Journal[ResultT],
        units: Iterable[Unit[ItemT]],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object],
        **arguments: Any,
    ) -> Iterator[list[ResultT]]:
        """The results chunk by chunk, each chunk asked when it is drawn, an API's too: ``units`` may be endless.

        Single answers of an API are in the ledger, so a chunk that is asked again costs nothing.
        """
        ask = self._asking(journal, stage, sampling, seed, arguments, advance=False)
        for results in chunks(units, self.chunk, ask, journal):
            self._stop_if_asked(journal)
            yield results

    def _asking(
        self,
        journal: Journal[ResultT],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object] | None,
        arguments: dict[str, Any],
        advance: bool = True,
    ) -> Ask[ItemT, ResultT]:
        counted = evolve(self.context, advance=lambda _: None, expect=lambda _: None)  # results are counted here

        def ask(items: Sequence[ItemT], chunk: int) -> Iterator[ResultT]:
            self._stop_if_asked(journal)
            drawn = sampling if seed is None else evolve(sampling, seed=derive_seed(*seed, chunk))
            for result in stage(self.registry, self.model, items, sampling=drawn, context=counted, **arguments):
                if advance:
                    self.context.advance(1)
                yield result

        return ask

    def _stop_if_asked(self, journal: Journal[Any]) -> None:
        if self.context.cancelled():
            raise Interrupted(f"{journal.artifact}: {STOPPED}")


def finish_file(
    path: Path,
    cls: type[ResultT],
    units: Sequence[Unit[ItemT]],
    asked: DurableStage,
    stage: Stage,
    sampling: Sampling,
    seed: Sequence[object] | None,
    **arguments: Any,
) -> list[ResultT]:
    """The results of all units, sorted by id: those in the file ``path``, and the others asked and written there.

    Work over files without a recipe: the same call continues in the same folder. A failed item is asked again; a result
    in the file that no unit needs is dropped. Raises RunLockedError if another process works in the folder, StageError
    if the stage ended early, and what ``DurableStage.results`` raises.
    """
    wanted = {id for unit in units for id in unit.results}
    store = Store(path.parent)
    with store.lock():
        kept = read_records(path, cls) if path.exists() else ()
        done = {result.id: result for result in kept if result.id in wanted and result.outcome is not Outcome.FAILED}
        left = [unit for unit in units if any(id not in done for id in unit.results)]
        if left or not path.exists():
            journal = store.journal(path.name, cls)
            asking = asked.results(journal, left, stage, sampling, seed, **arguments)
            results = unless_all_failed(asking, asked.registry, asked.model, others=bool(done))
            done |= {result.id: result for result in results if result.id in wanted}
            if missing := wanted - done.keys():
                raise StageError(f"{path}: stopped with {len(missing)} results missing; the same call continues")
            write_rows(path, sorted(done.values(), key=lambda result: result.id))
            journal.discard()
    return sorted(done.values(), key=lambda result: result.id)


def kept(journal: Journal[ResultT], refusals: bool = True) -> dict[str, ResultT]:
    """The finished results in a journal, by id. A failed result is not finished; nor a refused one without
    ``refusals``."""
    unfinished = {Outcome.FAILED} if refusals else {Outcome.FAILED, Outcome.REFUSED}
    return {result.id: result for result in journal if result.outcome not in unfinished}


def in_chunks(
    units: Iterable[Unit[ItemT]], size: int, ask: Ask[ItemT, ResultT], journal: Journal[ResultT]
) -> Iterator[ResultT]:
    """Do local work in chunks of ``size`` items; yield the results of finished chunks, the kept ones included."""
    for results in chunks(units, size, ask, journal):
        yield from results


def chunks(
    units: Iterable[Unit[ItemT]], size: int, ask: Ask[ItemT, ResultT], journal: Journal[ResultT]
) -> Iterator[list[ResultT]]:
    """As ``in_chunks``, with the results of each chunk as one list."""
    done = kept(journal)
    for number, chunk in enumerate(_batched(units, size)):
        results = [done[id] for unit in chunk for id in unit.results if id in done]
        if len(results) < sum(len(unit.results) for unit in chunk):
            results = list(ask([unit.item for unit in chunk], number))
            journal.append(results)
        yield results


def _batched(units: Iterable[Unit[ItemT]], size: int) -> Iterator[list[Unit[ItemT]]]:
    """Consecutive lists of at most ``size`` units (``itertools.batched`` needs Python 3.12)."""
    remaining = iter(units)
    while batch := list(islice(remaining, size)):
        yield batch


def one_by_one(
    units: Sequence[Unit[ItemT]], ask: Ask[ItemT, ResultT], journal: Journal[ResultT], refusals: bool = True
) -> Iterator[ResultT]:
    """Do an API's work; each result is durable before it is yielded. Those kept before come first.

    Without ``refusals``, items that were refused before are asked again.
    """
    done = kept(journal, refusals)
    left = [unit for unit in units if any(id not in done for id in unit.results)]
    again = {id for unit in left for id in unit.results}
    yield from (result for result in done.values() if result.id not in again)
    if left:
        for result in ask([unit.item for unit in left], 0):
            journal.append([result])
            yield result


def derive_seed(*parts: object) -> int:
    """A seed of 31 bits from names and numbers: the same on every machine, another for every step and chunk."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
