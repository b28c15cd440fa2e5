"""The rows that run, on the device: prompts are read into them, and each step appends a token to every one.

A step is the same kernels on the same tensors however long the rows are. So on a GPU it is captured once, as a CUDA
graph, for each of a few batch sizes, and replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field, frozen

from tutelage.errors import InputError
from tutelage.records import Sampling
from tutelage_transformers.generation.choosing import choose
from tutelage_transformers.generation.paged.attention import PAGE_SIZE, Appending, Cache, Reading
from tutelage_transformers.generation.paged.pages import IDLE_PAGE, Placement
from tutelage_transformers.generation.paged.state import State
from tutelage_transformers.generation.requests import fill_up

_READ_TOKENS = 16384
"""Prompt tokens that are read in one pass."""
_WARM_UPS = 2
"""Steps before a capture: the libraries set themselves up in the first."""


@frozen(eq=False)
class Row:
    """One reply to write."""

    prompt: Sequence[int]
    placement: Placement
    limit: int
    """New tokens at most."""
    uniform: Any
    """(new tokens,) float64: its random numbers."""


@define(eq=False)
class Decoder:
    """A model, its pages, and the state of as many rows as may run at once."""

    model: Any
    cache: Cache
    state: State
    ends: Any
    """Ids of the tokens that end a reply."""
    temperature: Any
    """(1,) float32, on the device: a captured step serves every setting."""
    top_p: Any
    greedy: bool = False
    read_tokens: int = _READ_TOKENS
    _graphs: dict[tuple[int, bool], Any] = field(init=False, factory=dict)
    _memory: Any = field(init=False, default=None)

    @classmethod
    def empty(cls, model: Any, ends: frozenset[int], pages: int, rows: int, width: int, row_pages: int) -> Decoder:
        """A decoder none of whose rows runs. Raises ``torch.OutOfMemoryError`` where the pages do not fit."""
        import torch

        device = model.device
        return cls(
            model,
            Cache.empty(model, pages),
            State.empty(rows, width, row_pages, device),
            torch.tensor(sorted(ends), device=device),
            temperature=torch.ones(1, device=device),
            top_p=torch.ones(1, device=device),
        )

    def use(self, sampling: Sampling) -> None:
        """Choose tokens so from now on."""
        self.greedy = sampling.temperature == 0
        self.temperature.fill_(sampling.temperature or 1.0)
        self.top_p.fill_(sampling.top_p)

    def read(self, slots: Sequence[int], rows: Sequence[Row]) -> None:
        """Read the rows' prompts into these slots and choose each one's first token.

        In as many passes as memory asks for; a row that shares pages stands behind the one that reads them. Raises
        ``InputError`` where not even one prompt can be read.
        """
        import torch

        start = 0
        while start < len(rows):
            end = _end_of_pass(rows, start, self.read_tokens)
            try:
                with torch.inference_mode():
                    self._read(slots[start:end], rows[start:end])
            except torch.OutOfMemoryError as error:
                if end - start == 1:
                    raise InputError(
                        f"plugin transformers: the GPU is too small to read a prompt of {len(rows[start].prompt)} "
                        "tokens beside the model; use a smaller model or shorter prompts"
                    ) from error
                torch.cuda.empty_cache()
                self.read_tokens = max(1, min(self.read_tokens, _to_read(rows[start:end])) // 2)
            else:
                start = end

    def _read(self, slots: Sequence[int], rows: Sequence[Row]) -> None:
        import torch

        device, state = self.model.device, self.state
        new, position, reading = _plan(rows, self.cache, device)
        logits = self.model(
            input_ids=new[None],
            position_ids=position[None],
            use_cache=False,
            logits_to_keep=torch.tensor(reading.new, device=device).cumsum(0) - 1,
            paged=reading,
        ).logits[0]
        uniform = fill_up([row.uniform for row in rows]).to(device)
        limit = torch.tensor([row.limit for row in rows], device=device)
        tokens = self._choose(logits, uniform[:, 0])
        at = torch.tensor(slots, device=device)
        state.table[at] = _table(rows, state.table.shape[1]).to(device)
        state.uniform[at, : uniform.shape[1]] = uniform
        state.written[at, 0] = tokens
        state.length[at] = torch.tensor(reading.whole, device=device)
        state.limit[at] = limit
        state.count[at] = 1
        state.token[at] = tokens
        state.running[at] = ~self._is_end(tokens) & (limit > 1)

    def prepare(self, size: int) -> None:
        """Capture the step of so many rows, where steps are captured. Raises ``torch.OutOfMemoryError``."""
        if self.model.device.type == "cuda":
            self._graph(size)

    def step(self, size: int) -> None:
        """Append a token to each of the first ``size`` rows that still run."""
        import torch

        if self.model.device.type == "cuda":
            self._graph(size).replay()
        else:
            with torch.inference_mode():
                self._step(self.state.first(size))

    def _step(self, rows: State) -> None:
        import torch

        page = rows.table.gather(1, (rows.length // PAGE_SIZE)[:, None]).squeeze(1)
        appending = Appending(
            self.cache,
            page=torch.where(rows.running, page, IDLE_PAGE).long(),
            offset=rows.length % PAGE_SIZE,
            table=rows.table,
            lengths=torch.where(rows.running, rows.length + 1, 0),
        )
        logits = self.model(
            input_ids=rows.token[None], position_ids=rows.length[None], use_cache=False, paged=appending
        ).logits[0]
        self._append(rows, logits)

    def _append(self, rows: State, logits: Any) -> None:
        import torch

        place = rows.count.clamp(max=rows.width - 1)[:, None]
        tokens = self._choose(logits, rows.uniform.gather(1, place).squeeze(1))
        rows.token.copy_(torch.where(rows.running, tokens, rows.token))
        before = rows.written.gather(1, place)
        rows.written.scatter_(1, place, torch.where(rows.running[:, None], tokens[:, None], before))
        rows.count.add_(rows.running)
        rows.length.add_(rows.running)
        rows.running.logical_and_(~self._is_end(tokens) & (rows.count < rows.limit))

    def _choose(self, logits: Any, uniform: Any) -> Any:
        if self.greedy:
            return logits.argmax(-1)
        if logits.is_cuda:
            from tutelage_transformers.generation.paged.kernels import choose_in_nucleus

            return choose_in_nucleus(logits, self.temperature, self.top_p, uniform)
        return choose(logits, Sampling(self.temperature.item(), self.top_p.item()), uniform)

    def _is_end(self, tokens: Any) -> Any:
        return (tokens[:, None] == self.ends).any(1)

    def _graph(self, size: int) -> Any:
        """The captured step. Where nothing runs a step changes nothing, so warming up leaves no trace."""
        import torch

        key = (size, self.greedy)
        if key not in self._graphs:
            rows = self.state.first(size)
            running = self.state.running.clone()
            self.state.running.zero_()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode():
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UPS):
                        self._step(rows)
                torch.cuda.current_stream().wait_stream(stream)
                with torch.cuda.graph(graph, pool=self._memory):
                    self._step(rows)
            self._memory = graph.pool()
            self._graphs[key] = graph
            self.state.running.copy_(running)
        return self._graphs[key]


def _plan(rows: Sequence[Row], cache: Cache, device: Any) -> tuple[Any, Any, Reading]:
    """Ids and positions of the tokens to read, and where their keys and values go and are found."""
    import numpy as np
    import torch

    shared = [row.placement.shared for row in rows]
    whole = [len(row.prompt) for row in rows]
    new = [length - known for length, known in zip(whole, shared, strict=True)]
    positions = [np.arange(length) for length in whole]
    pages = [np.asarray(row.placement.pages)[at // PAGE_SIZE] for row, at in zip(rows, positions, strict=True)]

    def join(parts: Sequence[Any], dtype: Any = torch.int64) -> Any:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype).to(device)

    def unread(parts: Sequence[Any]) -> Any:
        return join([part[known:] for part, known in zip(parts, shared, strict=True)])

    position = unread(positions)
    reading = Reading(
        cache,
        page=unread(pages),
        offset=position % PAGE_SIZE,
        past_page=join(pages),
        past_offset=join(positions) % PAGE_SIZE,
        new=new,
        whole=whole,
        new_starts=join([[0], np.cumsum(new)], torch.int32),
        whole_starts=join([[0], np.cumsum(whole)], torch.int32),
    )
    return unread([row.prompt for row in rows]), position, reading


def _table(rows: Sequence[Row], row_pages: int) -> Any:
    """(rows, row_pages) int32: each row's pages, filled up with the idle one."""
    import torch

    pages = [row.placement.pages for row in rows]
    return torch.tensor([[*own, *[IDLE_PAGE] * (row_pages - len(own))] for own in pages], dtype=torch.int32)


def _end_of_pass(rows: Sequence[Row], start: int, tokens: int) -> int:
    """Where a pass that begins with row ``start`` ends: as many rows as have so many tokens to read, one at least."""
    end = start + 1
    left = tokens - _to_read(rows[start:end])
    while end < len(rows) and (left := left - _to_read(rows[end : end + 1])) >= 0:
        end += 1
    return end


def _to_read(rows: Sequence[Row]) -> int:
    return sum(len(row.prompt) - row.placement.shared for row in rows)
