"""Which sequences run: waiting ones are admitted as others end, so that the batch stays full.

A GPU works while the caller does: the next steps are launched before the sequences that ended are yielded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from attrs import define, field

from tutelage_transformers.generation.paged.blocks import Allocation, BlockPool
from tutelage_transformers.generation.paged.decoder import ActiveSequence, Decoder
from tutelage_transformers.generation.requests import GeneratedTokens, GenerationRequest, OnTokens

_STEPS = 8
"""Steps between two checks of which sequences have ended: a check waits for the device."""
_REFILL_SHARE = 1 / 16
"""Sequences are admitted once this share of the batch is free: a prefill takes a pass of its own, however few they
are."""
_BATCH_SIZES = (8, 32, 128, 256, 384, 512, 768, 1024)
"""Batch sizes of a step; each step takes the smallest one that holds the running sequences."""


@define(eq=False)
class _Running:
    request: GenerationRequest
    allocation: Allocation
    count: int = 1
    """Number of new tokens at the last check."""

    @property
    def left(self) -> int:
        return self.request.max_new_tokens - self.count


@define(eq=False)
class Scheduler:
    """Takes requests through a decoder."""

    decoder: Decoder
    pool: BlockPool
    waiting: deque[GenerationRequest]
    uniforms_of: Callable[[int], Any]
    """Returns the random numbers of a sequence."""
    max_sequences: int
    """Maximum number of sequences that run at once."""
    on_tokens: OnTokens | None = None
    """Is called at each check with the new tokens of the sequences that run: set only if there is one."""
    _slots: dict[int, _Running] = field(init=False, factory=dict)
    _drawn: dict[int, Any] = field(init=False, factory=dict)
    """Random numbers of waiting requests, by index."""

    def run(self) -> Iterator[list[GeneratedTokens]]:
        """Yield the tokens of every request, in the order in which the sequences end."""
        ended: list[GeneratedTokens] = []
        try:
            while self.waiting or self._slots:
                try:
                    self._admit()
                    size = self._launch_steps()
                except Exception:
                    if ended:
                        yield ended
                    raise
                if ended:
                    yield ended
                self._draw_ahead()
                ended = self._ended(size)
            if ended:
                yield ended
        finally:
            self.decoder.state.running.zero_()
            for slot in list(self._slots):
                self._free(slot)

    def _admit(self) -> None:
        """Start waiting requests, if there is room for a batch of them."""
        free = self.max_sequences - len(self._slots)
        refill = min(len(self.waiting), max(1, self.max_sequences * _REFILL_SHARE))
        if not self.waiting or (self._slots and free < refill):
            return
        slots: list[int] = []
        sequences: list[ActiveSequence] = []
        empty = (slot for slot in range(self.max_sequences) if slot not in self._slots)
        while self.waiting and len(sequences) < free:
            request = self.waiting[0]
            allocation = self.pool.allocate(request.prompt, len(request.prompt) + request.max_new_tokens)
            if allocation is None:
                break
            self.waiting.popleft()
            slot = next(empty)
            self._slots[slot] = _Running(request, allocation)
            slots.append(slot)
            drawn = self._drawn.pop(request.index, None)
            uniforms = self.uniforms_of(request.index) if drawn is None else drawn
            sequences.append(ActiveSequence(request.prompt, allocation, request.max_new_tokens, uniforms))
        if sequences:
            self.decoder.prefill(slots, sequences)

    def _launch_steps(self) -> int:
        """Do some steps; returns their batch size. A GPU is not waited for."""
        size = self._compact()
        for _ in range(min(_STEPS, max(running.left for running in self._slots.values()))):
            self.decoder.decode(size)
        return size

    def _draw_ahead(self) -> None:
        """Draw the random numbers of the requests that are admitted next."""
        for request in islice(self.waiting, max(1, int(self.max_sequences * _REFILL_SHARE))):
            if request.index not in self._drawn:
                self._drawn[request.index] = self.uniforms_of(request.index)

    def _ended(self, size: int) -> list[GeneratedTokens]:
        """Wait for the steps; returns the sequences that ended in them, whose slots are freed."""
        runs, counts = self.decoder.state.first(size).progress()
        for slot, running in self._slots.items():
            running.count = counts[slot]
        if self.on_tokens:
            for slot in self._slots:
                self.on_tokens(*self.decoder.state.generated_tokens([slot], [counts[slot]]))
        ended = [slot for slot in self._slots if not runs[slot]]
        if not ended:
            return []
        generated = self.decoder.state.generated_tokens(ended, [counts[slot] for slot in ended])
        return [GeneratedTokens(self._free(slot), tokens) for slot, tokens in zip(ended, generated, strict=True)]

    def _compact(self) -> int:
        """Return the batch size of the next step; sequences move to lower slots if that makes it smaller."""
        size = batch_size_for(len(self._slots), self.max_sequences)
        beyond = [slot for slot in self._slots if slot >= size]
        if beyond:
            target = [slot for slot in range(size) if slot not in self._slots][: len(beyond)]
            self.decoder.state.move(beyond, target)
            for old, new in zip(beyond, target, strict=True):
                self._slots[new] = self._slots.pop(old)
        return size

    def _free(self, slot: int) -> int:
        """Free a slot and its blocks; returns the index of its request."""
        running = self._slots.pop(slot)
        self.pool.release(running.allocation)
        return running.request.index


def batch_size_for(sequences: int, max_sequences: int) -> int:
    """Return the batch size of a step of ``sequences`` sequences, at most ``max_sequences``."""
    return min(max_sequences, next((size for size in _BATCH_SIZES if size >= sequences), max_sequences))
