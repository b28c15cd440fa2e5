"""Item by item or chunk by chunk: how a stage's results become durable, and what is left to do after a kill.

An API's answers are kept one by one as they come. Local work is kept in chunks that the plan fixes, and a chunk that
was not finished is done again whole: a batch of another shape would pad differently and change logits in the last
digits, and so would end in other artifacts than an undisturbed run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from attrs import frozen

from tutelage.records import Outcome
from tutelage.runs.store import Journal


class Result(Protocol):
    """A record that a stage yields."""

    @property
    def id(self) -> str:
        """Unique within the step."""

    @property
    def outcome(self) -> Outcome:
        """What became of it."""


ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", bound=Result)


@frozen
class Unit(Generic[ItemT]):
    """One item of work, and the ids of all results that it must give."""

    item: ItemT
    results: tuple[str, ...]


Ask = Callable[[Sequence[ItemT], int], Iterator[ResultT]]
"""Asks a stage for the results of some items; the number is the chunk's, from which its seed is drawn."""


def kept(journal: Journal[ResultT], refusals: bool = True) -> dict[str, ResultT]:
    """What an earlier process finished, by id. A failed item is not; nor is, without ``refusals``, a refused one."""
    unfinished = {Outcome.FAILED} if refusals else {Outcome.FAILED, Outcome.REFUSED}
    return {result.id: result for result in journal if result.outcome not in unfinished}


def in_chunks(
    units: Sequence[Unit[ItemT]], size: int, ask: Ask[ItemT, ResultT], journal: Journal[ResultT]
) -> Iterator[ResultT]:
    """Do local work, ``size`` items at a time; yield the results of finished chunks, those kept before included."""
    done = kept(journal)
    for number, start in enumerate(range(0, len(units), size)):
        chunk = units[start : start + size]
        results = [done[id] for unit in chunk for id in unit.results if id in done]
        if len(results) < sum(len(unit.results) for unit in chunk):
            results = list(ask([unit.item for unit in chunk], number))
            journal.append(results)
        yield from results


def one_by_one(
    units: Sequence[Unit[ItemT]], ask: Ask[ItemT, ResultT], journal: Journal[ResultT], refusals: bool = True
) -> Iterator[ResultT]:
    """Do an API's work; each result is durable before it is yielded. Those kept before come first.

    Without ``refusals``, what was refused before is asked again.
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
