"""Durable calls of a stage: a finished result survives a kill and is not requested again.

The answers of an API are stored one by one as they arrive. The results of local work are stored in chunks of a fixed
size, and an unfinished chunk is computed again completely: a batch of other sequences is padded differently, which
changes the last digits of the logits, so that a resumed run would end with other artifacts than an uninterrupted one.
A model on several devices gets several chunks at once, so that each device has as much to do as one device alone. A
model on one GPU gets as many as keep it busy, because the last requests of a call leave most of the GPU idle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Lock
from typing import Any, Generic, Protocol, TypeVar

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import Interrupted, StageError
from tutelage.files.jsonl import read_records, write_rows
from tutelage.plugins.helpers import devices, requests_at_once
from tutelage.plugins.registry import Registry
from tutelage.records import Model, Outcome, Sampling
from tutelage.runs.ahead import one_ahead
from tutelage.runs.failures import unless_all_failed
from tutelage.runs.store import Journal, Store

CHUNK = 128
"""Default number of items of local work per chunk. In a run, the recipe's ``chunk`` is used."""
_ROUNDS_PER_CALL = 8
"""Maximum number of requests of a call of several chunks, in relation to those that the model answers at once. At the
end of a call, few requests still run, until the longest answer is complete. A kill loses all results of a call."""
STOPPED = "stopped as requested; finished work is kept, and the same command continues"


class Result(Protocol):
    """A record that a stage yields."""

    @property
    def id(self) -> str:
        """Unique within the artifact."""

    @property
    def outcome(self) -> Outcome:
        """Whether the request was answered, and if not, why."""


ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", bound=Result)
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", bound=Result, covariant=True)


@frozen
class Unit(Generic[ItemT]):
    """One item of a stage, and the ids of all results that the stage yields for it."""

    item: ItemT
    results: tuple[str, ...]


_Chunks = Sequence[tuple[int, list[Unit[ItemT]]]]
"""Chunks of units, each with its number."""
_Asked = tuple[list[ResultT], BaseException | None]
"""The results of a call, and the error by which it ended early."""


class Ask(Protocol[ItemT_contra, ResultT_co]):
    """A function that yields the results of some items."""

    def __call__(
        self, items: Sequence[ItemT_contra], chunk: int, chunks: Sequence[int] = (), /
    ) -> Iterator[ResultT_co]:
        """Yield the results. The seed of the items is derived from ``chunk``, the number of their chunk.

        If the items belong to several chunks, ``chunks`` has the number of each item's chunk.
        """


Stage = Callable[..., Iterator[Any]]
"""A stage of ``plugins.stages``: called with (registry, model, items, sampling=, context=) and its own arguments."""


@frozen
class DurableStage:
    """Durable calls of the stages of one model, with progress, seeds, cancellation and chunks."""

    registry: Registry
    model: Model
    context: Context
    chunk: int = CHUNK
    """Number of items of local work that are stored together."""

    @property
    def item_by_item(self) -> bool:
        """Whether each result is stored separately. The plugin of an API asks for this."""
        return self.registry.info(self.model.plugin).item_by_item

    def _chunks_at_once(self, units: Sequence[Unit[Any]]) -> tuple[int, bool]:
        """Return how many chunks the plugin gets at once, and whether it gets the next ones before these are finished.

        Several devices get one chunk each, and the next ones ahead. One device gets as many chunks as keep it busy. No
        seed depends on it.
        """
        where = f"settings of {self.model.id or 'the model'}"
        if (count := devices(self.registry, self.model, where)) > 1:
            return count, True
        if (at_once := requests_at_once(self.registry, self.model, where)) == 1:
            return 1, False
        requests = self.chunk * max((len(unit.results) for unit in units), default=1)
        return max(1, _ROUNDS_PER_CALL * at_once // requests), False

    def results(
        self,
        journal: Journal[ResultT],
        units: Sequence[Unit[ItemT]],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object] | None,
        **arguments: Any,
    ) -> Iterator[ResultT]:
        """Yield the results of all units in any order, including those stored in the journal.

        The seed of each chunk is derived from the names and numbers in ``seed``; None leaves ``sampling`` unchanged.
        Raises Interrupted if the user asked to stop, and the errors of the stage.
        """
        advanced, lock, stopped = 0, Lock(), Event()

        def advance(items: int) -> None:
            nonlocal advanced
            with lock:
                advanced += items
                self.context.advance(items)

        def cancelled() -> bool:
            return stopped.is_set() or self.context.cancelled()

        counting = evolve(self, context=evolve(self.context, advance=advance, cancelled=cancelled))
        ask: Ask[ItemT, ResultT] = counting._ask_function(journal, stage, sampling, seed, arguments)
        if self.item_by_item:
            results = one_by_one(units, ask, journal, refusals=not self.context.caller.ask_refused_again)
        else:
            results = in_chunks(units, self.chunk, ask, journal, *self._chunks_at_once(units))
        try:
            for yielded, result in enumerate(results, 1):
                if yielded > advanced:  # an earlier process stored it
                    advance(1)
                yield result
        finally:
            stopped.set()  # chunks that are computed ahead are not waited for
        self._stop_if_cancelled(journal)

    def rounds(
        self,
        journal: Journal[ResultT],
        units: Iterable[Unit[ItemT]],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object],
        at_once: Callable[[], int],
        **arguments: Any,
    ) -> Iterator[list[ResultT]]:
        """Yield the results chunk by chunk. A chunk is computed when it is requested, so ``units`` may be infinite.

        ``at_once`` is called before each request and returns the number of chunks that are computed and stored
        together. If it depends on the yielded results alone, a continued run computes the same chunks together.

        The answers of an API are stored chunk by chunk, too. The ledger has every single answer, so repeating an
        unfinished chunk costs nothing.
        """
        ask = self._ask_function(journal, stage, sampling, seed, arguments, advance=False)
        done, numbered = kept(journal), enumerate(_batched(units, self.chunk))
        while group := list(islice(numbered, at_once())):
            stored, missing = _divided(group, done)
            computed = _stored(journal, group, *_ask_all(ask, missing))
            found = {result.id: result for result in (*stored, *computed)}
            for _, chunk in group:
                self._stop_if_cancelled(journal)
                yield [found[id] for unit in chunk for id in unit.results if id in found]

    def _ask_function(
        self,
        journal: Journal[ResultT],
        stage: Stage,
        sampling: Sampling,
        seed: Sequence[object] | None,
        arguments: dict[str, Any],
        advance: bool = True,
    ) -> Ask[ItemT, ResultT]:
        # The results are counted here, so the progress that the plugin reports is ignored.
        silent = evolve(self.context, advance=lambda _: None, expect=lambda _: None)

        def ask(items: Sequence[Any], chunk: int, chunks: Sequence[int] = (), /) -> Iterator[ResultT]:
            self._stop_if_cancelled(journal)
            seeded, at = sampling, silent
            if seed is not None:
                seeded = evolve(sampling, seed=derive_seed(*seed, chunk))
                if chunks:
                    seeds = {number: derive_seed(*seed, number) for number in set(chunks)}
                    own = {item.id: seeds[number] for item, number in zip(items, chunks, strict=True)}
                    at = evolve(silent, seeds=own)
            for result in stage(self.registry, self.model, items, sampling=seeded, context=at, **arguments):
                if advance:
                    self.context.advance(1)
                yield result

        return ask

    def _stop_if_cancelled(self, journal: Journal[Any]) -> None:
        if self.context.cancelled():
            raise Interrupted(f"{journal.artifact}: {STOPPED}")


def finish_file(
    path: Path,
    cls: type[ResultT],
    units: Sequence[Unit[ItemT]],
    durable: DurableStage,
    stage: Stage,
    sampling: Sampling,
    seed: Sequence[object] | None,
    **arguments: Any,
) -> list[ResultT]:
    """Complete the file ``path`` with the results of all units, and return them sorted by id.

    The results that the file has are read, the others are requested and written to it. This is for work on files
    without a recipe: calling it again continues in the same folder. Failed items are requested again. Results in the
    file that no unit needs are dropped. Raises RunLockedError if another process works in the folder, StageError if the
    stage ended early, and the errors of ``DurableStage.results``.
    """
    wanted = {id for unit in units for id in unit.results}
    store = Store(path.parent)
    with store.lock():
        stored = read_records(path, cls) if path.exists() else ()
        done = {result.id: result for result in stored if result.id in wanted and result.outcome is not Outcome.FAILED}
        remaining = [unit for unit in units if any(id not in done for id in unit.results)]
        if remaining or not path.exists():
            journal = store.journal(path.name, cls)
            asked = durable.results(journal, remaining, stage, sampling, seed, **arguments)
            results = unless_all_failed(asked, durable.registry, durable.model, others=bool(done))
            done |= {result.id: result for result in results if result.id in wanted}
            if missing := wanted - done.keys():
                raise StageError(
                    f"{path}: stopped with {len(missing)} results missing; calling it again continues from here"
                )
            write_rows(path, sorted(done.values(), key=lambda result: result.id))
            journal.discard()
    return sorted(done.values(), key=lambda result: result.id)


def kept(journal: Journal[ResultT], refusals: bool = True) -> dict[str, ResultT]:
    """Return the finished results in a journal, by id.

    Failed results are not finished. Refused results are finished only if ``refusals`` is true.
    """
    unfinished = {Outcome.FAILED} if refusals else {Outcome.FAILED, Outcome.REFUSED}
    return {result.id: result for result in journal if result.outcome not in unfinished}


def in_chunks(
    units: Iterable[Unit[ItemT]],
    size: int,
    ask: Ask[ItemT, ResultT],
    journal: Journal[ResultT],
    at_once: int = 1,
    ahead: bool = False,
) -> Iterator[ResultT]:
    """Do local work in chunks of ``size`` items; yield the results of each finished chunk, including stored ones.

    ``at_once`` chunks are computed together, without those that are stored, and are stored when all are finished. If an
    error ends their work early, those that are complete are stored. If ``ahead`` is true, the next chunks are
    requested before these are finished. This is for several devices: one that has finished its share does not wait for
    the others, nor for the journal.
    """
    done = kept(journal)

    def groups() -> Iterator[tuple[tuple[_Chunks[ItemT], list[ResultT]], Callable[[], _Asked[ResultT]]]]:
        """Yield some chunks with their stored results, and the function that computes the others."""
        for group in _batched(enumerate(_batched(units, size)), at_once):
            stored, missing = _divided(group, done)
            yield (group, stored), partial(_ask_all, ask, missing)

    for (group, stored), asked in one_ahead(groups()) if ahead else ((one, call()) for one, call in groups()):
        yield from (*stored, *_stored(journal, group, *asked))


def _divided(group: _Chunks[ItemT], done: Mapping[str, ResultT]) -> tuple[list[ResultT], list[tuple[int, ItemT]]]:
    """Return the results of the stored ones of numbered chunks, and the (chunk number, item) pairs of the others."""
    stored = {number for number, chunk in group if all(id in done for unit in chunk for id in unit.results)}
    ids = [id for number, chunk in group if number in stored for unit in chunk for id in unit.results]
    return [done[id] for id in ids], [
        (number, unit.item) for number, chunk in group if number not in stored for unit in chunk
    ]


def _ask_all(ask: Ask[ItemT, ResultT], missing: Sequence[tuple[int, ItemT]]) -> _Asked[ResultT]:
    """Return the results of (chunk number, item) pairs, and the error by which they ended early."""
    results: list[ResultT] = []
    if not missing:
        return results, None
    numbers, items = [number for number, _ in missing], [item for _, item in missing]
    try:
        # if the iterator raises an error, the list has the results before it
        results.extend(ask(items, numbers[0], numbers) if len(set(numbers)) > 1 else ask(items, numbers[0]))
    except BaseException as error:
        return results, error
    return results, None


def _stored(
    journal: Journal[ResultT], group: _Chunks[Any], results: list[ResultT], error: BaseException | None
) -> list[ResultT]:
    """Store the results of numbered chunks and return them.

    If they ended early by an error, those of the chunks that are complete are stored, and the error is raised.
    """
    if error is not None:
        results, _ = _divided(group, {result.id: result for result in results})
    if results:
        journal.append(results)
    if error is not None:
        raise error
    return results


def _batched(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Yield consecutive lists of at most ``size`` items (``itertools.batched`` needs Python 3.12)."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def one_by_one(
    units: Sequence[Unit[ItemT]], ask: Ask[ItemT, ResultT], journal: Journal[ResultT], refusals: bool = True
) -> Iterator[ResultT]:
    """Request results from an API; each result is durable before it is yielded. Stored results are yielded first.

    If ``refusals`` is false, items that were refused before are requested again.
    """
    done = kept(journal, refusals)
    remaining = [unit for unit in units if any(id not in done for id in unit.results)]
    again = {id for unit in remaining for id in unit.results}
    yield from (result for result in done.values() if result.id not in again)
    if remaining:
        for result in ask([unit.item for unit in remaining], 0):
            journal.append([result])
            yield result


def derive_seed(*parts: object) -> int:
    """Derive a seed of 31 bits from names and numbers. Equal parts give the same seed on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
