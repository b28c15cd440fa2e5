"""Requests in, generated tokens out: a decoder for as many sequences as fit, kept while its model is loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen

from tutelage.errors import InputError
from tutelage.records import Sampling
from tutelage_transformers.devices.compiling import compiling_in_threads
from tutelage_transformers.devices.selection import empty_cache, is_nvidia, kernels_problem
from tutelage_transformers.generation.memory import MAX_SEQUENCES, bytes_for_blocks, bytes_per_token
from tutelage_transformers.generation.paged import attention
from tutelage_transformers.generation.paged.attention import BLOCK_SIZE
from tutelage_transformers.generation.paged.blocks import BlockPool
from tutelage_transformers.generation.paged.decoder import ActiveSequence, Decoder
from tutelage_transformers.generation.paged.first_calls import first_calls
from tutelage_transformers.generation.paged.scheduler import Scheduler, batch_size_for
from tutelage_transformers.generation.paged.state import State
from tutelage_transformers.generation.requests import GeneratedTokens, GenerationRequest, OnTokens, WeighedTokens
from tutelage_transformers.models.loading import LoadedModel

_MIN_WIDTH = 256
"""Minimum room for new tokens, so that one decoder serves candidates and judgements alike."""
_GIB = 2**30


@frozen(eq=False)
class _Kept:
    decoder: Decoder
    pool: BlockPool


_kept: WeakKeyDictionary[LoadedModel, _Kept] = WeakKeyDictionary()
"""The decoder of each loaded model: its blocks and its captured graphs are used by many calls."""


def is_preferred(loaded: LoadedModel) -> bool:
    """Return whether this engine is the faster one: on an NVIDIA GPU, for a model that it supports."""
    return is_nvidia(loaded.model.device) and _unsupported_reason(loaded) is None


def check(loaded: LoadedModel) -> None:
    """Raise ``InputError`` if this engine does not support the model."""
    if reason := _unsupported_reason(loaded):
        raise InputError(
            f"plugin transformers, settings.engine: this model cannot be paged: {reason}; leave engine out"
        )


def _unsupported_reason(loaded: LoadedModel) -> str | None:
    if loaded in _kept:
        return None
    device = loaded.model.device
    if device.type != "cpu" and (problem := kernels_problem(device)):
        return problem
    return attention.unsupported_reason(loaded.model)


def generate(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    stop_tokens: frozenset[int],
    uniforms_of: Callable[[int], Any],
    batch_size: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Iterator[list[GeneratedTokens]]:
    """Generate the requested sequences, in the order in which they end.

    ``uniforms_of`` returns the random numbers (new tokens,) of a sequence. At most ``batch_size`` sequences run at
    once, fewer if memory is short. ``on_tokens`` is called after every few steps if there is one sequence. Raises
    ``InputError`` if the GPU is too small for one sequence.
    """
    if not requests:
        return
    limit = batch_size or MAX_SEQUENCES
    slots = batch_size_for(min(len(requests), limit), limit)
    longest = max(len(request.prompt) + request.max_new_tokens for request in requests)
    width = max(request.max_new_tokens for request in requests)
    kept = _decoder_for(loaded, stop_tokens, sampling, slots, width, longest)
    watch = on_tokens if len(requests) == 1 else None
    yield from Scheduler(kept.decoder, kept.pool, deque(requests), uniforms_of, slots, watch).run()


def weigh(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    stop_tokens: frozenset[int],
    batch_size: int | None = None,
) -> Iterator[list[WeighedTokens]]:
    """Compute the probabilities of ``tokens`` after each prompt, in order; nothing is decoded.

    Prompts that begin alike, as all judgements under one rubric do, share the blocks of the common prefix: the first
    prompt of a batch keeps them until the next batch has its own. Raises ``InputError`` as ``generate`` does.
    """
    if not prompts:
        return
    limit = batch_size or MAX_SEQUENCES
    slots = batch_size_for(min(len(prompts), limit), limit)
    kept = _decoder_for(loaded, stop_tokens, Sampling(0.0), slots, 1, max(map(len, prompts)) + 1)
    start, shared = 0, None
    try:
        while start < len(prompts):
            waiting = prompts[start : start + slots]
            batch = _allocated(kept.pool, waiting)
            if shared is not None:
                kept.pool.release(shared)
                shared = None
                batch = batch or _allocated(kept.pool, waiting)
            try:
                found = kept.decoder.weigh(batch, tokens)
            finally:
                shared = batch[0].allocation
                for sequence in batch[1:]:
                    kept.pool.release(sequence.allocation)
            yield [WeighedTokens(start + offset, one) for offset, one in enumerate(found)]
            start += len(batch)
    finally:
        if shared is not None:
            kept.pool.release(shared)


def _allocated(pool: BlockPool, prompts: Sequence[Sequence[int]]) -> list[ActiveSequence]:
    """Return sequences for as many of the prompts, from the first, as there are blocks."""
    batch: list[ActiveSequence] = []
    for prompt in prompts:
        allocation = pool.allocate(prompt, len(prompt))
        if allocation is None:
            break
        batch.append(ActiveSequence(prompt, allocation, 1, None))
    return batch


def _decoder_for(
    loaded: LoadedModel, stop_tokens: frozenset[int], sampling: Sampling, slots: int, width: int, longest: int
) -> _Kept:
    """Return the model's decoder, or a new one if that is too small."""
    kept = _kept.pop(loaded, None)
    if kept is None:
        attention.install(loaded.model)
    elif not _is_large_enough(kept.decoder.state, slots, width, longest):
        slots, width = max(slots, kept.decoder.state.slots), max(width, kept.decoder.state.width)
        longest = max(longest, kept.decoder.state.block_table.shape[1] * BLOCK_SIZE)
        kept = None
    if kept is None:
        kept = _new(loaded.model, stop_tokens, sampling, slots, max(width, _MIN_WIDTH), longest)
    _kept[loaded] = kept
    kept.decoder.set_sampling(sampling)
    return kept


def _is_large_enough(state: State, slots: int, width: int, longest: int) -> bool:
    return state.slots >= slots and state.width >= width and state.block_table.shape[1] * BLOCK_SIZE >= longest


def _new(model: Any, stop_tokens: frozenset[int], sampling: Sampling, slots: int, width: int, longest: int) -> _Kept:
    """Return a decoder with as many blocks as its sequences may need, or as fit; half as many each time that fails."""
    import torch

    empty_cache()
    blocks_per_sequence = -(-longest // BLOCK_SIZE)
    block_bytes = BLOCK_SIZE * bytes_per_token(model)
    blocks = min(slots * blocks_per_sequence, bytes_for_blocks(model) // block_bytes) + 1
    while blocks > blocks_per_sequence:
        try:
            decoder = Decoder.empty(model, stop_tokens, blocks, slots, width, blocks_per_sequence)
            decoder.set_sampling(sampling)
            if is_nvidia(model.device):
                with compiling_in_threads(model.device, partial(first_calls, decoder)):
                    pass  # four kernels are compiled in the time of one
            decoder.prepare(slots)
            return _Kept(decoder, BlockPool(blocks, BLOCK_SIZE))
        except torch.OutOfMemoryError:
            decoder = None
            empty_cache()
            blocks //= 2
    raise InputError(
        f"plugin transformers: the GPU is too small: a sequence of {longest} tokens needs "
        f"{blocks_per_sequence * block_bytes / _GIB:.1f} GiB beside the model; use a smaller model, fewer new tokens "
        "or shorter prompts"
    )
