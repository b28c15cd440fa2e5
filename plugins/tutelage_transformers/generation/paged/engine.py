"""Prompts in, rows of tokens out: a decoder for as many rows as fit, kept while its model is loaded."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen

from tutelage.errors import InputError
from tutelage.records import Sampling
from tutelage_transformers.devices.selection import empty_cache
from tutelage_transformers.generation.memory import MOST_ROWS, bytes_for_pages, bytes_per_token
from tutelage_transformers.generation.paged.attention import PAGE_SIZE, hindrance, use
from tutelage_transformers.generation.paged.decoding import Decoder
from tutelage_transformers.generation.paged.pages import PagePool
from tutelage_transformers.generation.paged.scheduling import Schedule, size_for
from tutelage_transformers.generation.paged.state import State
from tutelage_transformers.generation.requests import Request, Written
from tutelage_transformers.models.loading import Loaded

_LEAST_WIDTH = 256
"""Room for new tokens, at least, so that a decoder serves candidates and judgements alike."""
_GIB = 2**30


@frozen(eq=False)
class _Kept:
    decoder: Decoder
    pool: PagePool


_kept: WeakKeyDictionary[Loaded, _Kept] = WeakKeyDictionary()
"""Each loaded model's decoder: its pages and its captured steps outlive a call."""


def is_for(loaded: Loaded) -> bool:
    """Whether this engine is the faster one for the model where it is: on an NVIDIA GPU, with full attention."""
    return loaded.model.device.type == "cuda" and _hindrance(loaded) is None


def check(loaded: Loaded) -> None:
    """Raise ``InputError`` where this engine cannot serve the model."""
    if hindrance := _hindrance(loaded):
        raise InputError(
            f"plugin transformers, settings.engine: this model cannot be paged: {hindrance}; leave engine out"
        )


def _hindrance(loaded: Loaded) -> str | None:
    if loaded.model.device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None if loaded in _kept else hindrance(loaded.model)


def write(
    loaded: Loaded,
    requests: Sequence[Request],
    sampling: Sampling,
    ends: frozenset[int],
    draw: Callable[[int], Any],
    batch_size: int | None = None,
) -> Iterator[list[Written]]:
    """Answer the requests, in the order in which their replies end.

    ``draw`` gives the random numbers of a row (new tokens,). At most ``batch_size`` rows run at once, fewer where
    memory is short. Raises ``InputError`` where the GPU is too small for one row.
    """
    if not requests:
        return
    most = size_for(min(len(requests), batch_size or MOST_ROWS), batch_size or MOST_ROWS)
    longest = max(len(request.prompt) + request.limit for request in requests)
    kept = _decoder_for(loaded, ends, sampling, most, max(request.limit for request in requests), longest)
    yield from Schedule(kept.decoder, kept.pool, deque(requests), draw, most).replies()


def _decoder_for(
    loaded: Loaded, ends: frozenset[int], sampling: Sampling, rows: int, width: int, longest: int
) -> _Kept:
    """The model's decoder, or a new one where it is too small."""
    kept = _kept.pop(loaded, None)
    if kept is None:
        use(loaded.model)
    elif not _is_enough(kept.decoder.state, rows, width, longest):
        rows, width = max(rows, len(kept.decoder.state.token)), max(width, kept.decoder.state.width)
        longest = max(longest, kept.decoder.state.table.shape[1] * PAGE_SIZE)
        kept = None
    if kept is None:
        kept = _new(loaded.model, ends, sampling, rows, max(width, _LEAST_WIDTH), longest)
    _kept[loaded] = kept
    kept.decoder.use(sampling)
    return kept


def _is_enough(state: State, rows: int, width: int, longest: int) -> bool:
    return len(state.token) >= rows and state.width >= width and state.table.shape[1] * PAGE_SIZE >= longest


def _new(model: Any, ends: frozenset[int], sampling: Sampling, rows: int, width: int, longest: int) -> _Kept:
    """A decoder with as many pages as its rows could want, or as memory gives; half as many where that fails."""
    import torch

    empty_cache()
    row_pages = -(-longest // PAGE_SIZE)
    page_bytes = PAGE_SIZE * bytes_per_token(model)
    pages = min(rows * row_pages, bytes_for_pages(model) // page_bytes) + 1
    while pages > row_pages:
        try:
            decoder = Decoder.empty(model, ends, pages, rows, width, row_pages)
            decoder.use(sampling)
            decoder.prepare(rows)
            return _Kept(decoder, PagePool(pages, PAGE_SIZE))
        except torch.OutOfMemoryError:
            decoder = None
            empty_cache()
            pages //= 2
    raise InputError(
        f"plugin transformers: the GPU is too small: a row of {longest} tokens needs "
        f"{row_pages * page_bytes / _GIB:.1f} GiB beside the model; use a smaller model, fewer new tokens "
        "or shorter prompts"
    )
