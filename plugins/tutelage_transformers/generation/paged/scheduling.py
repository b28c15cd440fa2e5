"""Which rows run: waiting ones come in as others end, so that the batch stays full; finished ones stream out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field

from tutelage_transformers.generation.paged.decoding import Decoder, Row
from tutelage_transformers.generation.paged.pages import PagePool, Placement
from tutelage_transformers.generation.requests import Request, Written

_STEPS = 8
"""Steps between two looks at which rows have ended: a look waits for the device."""
_REFILL_SHARE = 1 / 16
"""Rows come in once this share of the batch is free: reading prompts costs a pass of its own, however few they are."""
_SIZES = (8, 32, 128, 256, 384, 512, 768, 1024)
"""Batch sizes of a step; it takes the least one that holds the rows that run."""


@define(eq=False)
class _Running:
    request: Request
    placement: Placement
    count: int = 1
    """Tokens written when last looked at."""

    @property
    def left(self) -> int:
        return self.request.limit - self.count


@define(eq=False)
class Schedule:
    """Requests on their way through a decoder."""

    decoder: Decoder
    pool: PagePool
    waiting: deque[Request]
    draw: Callable[[int], Any]
    """The random numbers of a row."""
    most: int
    """Rows at once."""
    _slots: dict[int, _Running] = field(init=False, factory=dict)

    def replies(self) -> Iterator[list[Written]]:
        """Every request's reply, in the order in which they end."""
        try:
            while self.waiting or self._slots:
                self._admit()
                yield from self._advance()
        finally:
            self.decoder.state.running.zero_()
            for slot in list(self._slots):
                self._free(slot)

    def _admit(self) -> None:
        """Let waiting requests in, where there is room for a batch of them."""
        free = self.most - len(self._slots)
        if not self.waiting or (self._slots and free < min(len(self.waiting), max(1, self.most * _REFILL_SHARE))):
            return
        slots: list[int] = []
        rows: list[Row] = []
        empty = (slot for slot in range(self.most) if slot not in self._slots)
        while self.waiting and len(rows) < free:
            request = self.waiting[0]
            placement = self.pool.place(request.prompt, len(request.prompt) + request.limit)
            if placement is None:
                break
            self.waiting.popleft()
            slot = next(empty)
            self._slots[slot] = _Running(request, placement)
            slots.append(slot)
            rows.append(Row(request.prompt, placement, request.limit, self.draw(request.row)))
        if rows:
            self.decoder.read(slots, rows)

    def _advance(self) -> Iterator[list[Written]]:
        """Some steps, and the replies that ended in them."""
        size = self._compact()
        for _ in range(min(_STEPS, max(running.left for running in self._slots.values()))):
            self.decoder.step(size)
        runs, counts = self.decoder.state.first(size).progress()
        for slot, running in self._slots.items():
            running.count = counts[slot]
        if over := [slot for slot in self._slots if not runs[slot]]:
            written = self.decoder.state.replies(over, [counts[slot] for slot in over])
            yield [Written(self._free(slot), tokens) for slot, tokens in zip(over, written, strict=True)]

    def _compact(self) -> int:
        """The size of the next step; rows move together where that makes it smaller."""
        size = size_for(len(self._slots), self.most)
        beyond = [slot for slot in self._slots if slot >= size]
        if beyond:
            target = [slot for slot in range(size) if slot not in self._slots][: len(beyond)]
            self.decoder.state.move(beyond, target)
            for old, new in zip(beyond, target, strict=True):
                self._slots[new] = self._slots.pop(old)
        return size

    def _free(self, slot: int) -> int:
        """Give the slot and its pages back; returns which row it wrote."""
        running = self._slots.pop(slot)
        self.pool.release(running.placement)
        return running.request.row


def size_for(rows: int, most: int) -> int:
    """The batch size of a step of so many rows."""
    return min(most, next((size for size in _SIZES if size >= rows), most))
