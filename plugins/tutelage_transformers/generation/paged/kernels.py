"""Triton kernels of attention and sampling. ``attention`` and ``sampling`` compute the same in plain torch.

Tests compare them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tutelage_transformers.attention.segments import Scores
from tutelage_transformers.generation.sampling import NOT_FINITE

_QUERIES = 16
"""Queries of one program: the smallest number that matrix units take."""
_DRAWS = 64
"""Maximum number of tokens that are drawn before one is taken: each leaves at most the more probable ones to the next,
so more than a few are needed for a small nucleus of a flat distribution only."""
_VOCABULARY_BLOCK = 2048
"""Tokens at once."""


def decode_attention(query: Any, keys: Any, values: Any, block_table: Any, lengths: Any, scores: Scores) -> Any:
    """Compute the attention of one new token per sequence over its keys and values in blocks.

    ``query`` is (sequences, heads, head_dim), ``keys`` and ``values`` are (blocks, kv_heads, block_size, head_dim),
    ``block_table`` is (sequences, blocks per sequence) int32 and ``lengths`` (sequences,). Returns (sequences, heads,
    head_dim), zeros for a sequence of length 0.
    """
    sequences, heads, head_dim = query.shape
    _, kv_heads, block_size, _ = keys.shape
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    main = 1 << (head_dim.bit_length() - 1)
    group = heads // kv_heads
    tiles = triton.cdiv(group, _QUERIES)
    _decode_attention[(kv_heads * tiles, sequences)](
        query, keys, values, block_table, lengths, out, scores.scale, scores.window or 0, scores.cap or 0.0,
        query.stride(0), query.stride(1), block_table.stride(0), kv_heads, group,
        tiles, _QUERIES, block_size, head_dim, main,
        max(16, triton.next_power_of_2(head_dim - main)) if head_dim > main else 0, scores.cap is not None,
        num_warps=1 if head_dim <= 128 else 4,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["window"])
def _decode_attention(
    query, keys, values, block_table, lengths, out, scaling, window, cap,
    row_stride, head_stride, table_stride, kv_heads, group,
    TILES: tl.constexpr, QUERIES: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr, MAIN: tl.constexpr,
    REST: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """One program for each key-value head of each sequence, one block at a time, with a running softmax.

    The running softmax is that of Milakov and Gimelshein (2018). Matrix units take at least sixteen queries. These are
    the heads that share keys and values, which are so read once; the other rows are zero. This costs nothing, because
    reading the keys and values takes the time. A head of 80 is read as 64 and 16: padded to 128, fewer warps would fit.
    """
    kv_head = tl.program_id(0) // TILES
    row = tl.program_id(1)
    length = tl.load(lengths + row)
    member = tl.program_id(0) % TILES * QUERIES + tl.arange(0, QUERIES)
    real = (member < group)[:, None]
    head = kv_head * group + member
    start_of_query = query + row * row_stride + head[:, None] * head_stride
    dims = tl.arange(0, MAIN)
    queries = tl.load(start_of_query + dims[None, :], mask=real, other=0.0)
    weighted = tl.zeros([QUERIES, MAIN], dtype=tl.float32)
    if REST:
        more = MAIN + tl.arange(0, REST)
        queries_more = tl.load(start_of_query + more[None, :], mask=real & (more < DIM)[None, :], other=0.0)
        weighted_more = tl.zeros([QUERIES, REST], dtype=tl.float32)
    highest = tl.full([QUERIES], -1e30, dtype=tl.float32)
    total = tl.zeros([QUERIES], dtype=tl.float32)
    offsets = tl.arange(0, BLOCK)
    earliest = tl.where(window > 0, tl.maximum(length - window, 0), 0)
    for start in tl.range(earliest // BLOCK * BLOCK, length, BLOCK, num_stages=2):
        valid = (start + offsets < length) & (start + offsets >= earliest)
        block = tl.load(block_table + row * table_stride + start // BLOCK).to(tl.int64)
        address = ((block * kv_heads + kv_head) * BLOCK + offsets[:, None]) * DIM
        key = tl.load(keys + address + dims[None, :], mask=valid[:, None], other=0.0)
        value = tl.load(values + address + dims[None, :], mask=valid[:, None], other=0.0)
        score = tl.dot(queries, tl.trans(key), input_precision="ieee")
        if REST:
            valid_more = valid[:, None] & (more < DIM)[None, :]
            key_more = tl.load(keys + address + more[None, :], mask=valid_more, other=0.0)
            value_more = tl.load(values + address + more[None, :], mask=valid_more, other=0.0)
            score += tl.dot(queries_more, tl.trans(key_more), input_precision="ieee")
        score = score * scaling
        if CAPPED:
            score = cap * (2.0 / (1.0 + tl.exp(-2.0 * score / cap)) - 1.0)  # the hyperbolic tangent
        score = tl.where(valid[None, :], score, -1e30)
        new_highest = tl.maximum(highest, tl.max(score, 1))
        weights = tl.exp(score - new_highest[:, None])
        rescaling = tl.exp(highest - new_highest)
        rounded = weights.to(value.dtype)
        weighted = weighted * rescaling[:, None] + tl.dot(rounded, value, input_precision="ieee")
        if REST:
            weighted_more = weighted_more * rescaling[:, None] + tl.dot(rounded, value_more, input_precision="ieee")
        total = total * rescaling + tl.sum(weights, 1)
        highest = new_highest
    total = tl.where(total > 0, total, 1.0)[:, None]
    start_of_out = out + (row * (kv_heads * group) + head[:, None]) * DIM
    tl.store(start_of_out + dims[None, :], (weighted / total).to(out.dtype.element_ty), mask=real)
    if REST:
        result = (weighted_more / total).to(out.dtype.element_ty)
        tl.store(start_of_out + more[None, :], result, mask=real & (more < DIM)[None, :])


def sample_from_nucleus(logits: Any, temperature: Any, top_p: Any, min_p: Any, uniform: Any) -> Any:
    """Sample a token from the nucleus of each sequence; returns token ids (sequences,).

    ``logits`` is (sequences, vocabulary), ``uniform`` (sequences,) in [0, 1). ``temperature``, ``top_p`` and ``min_p``
    are (1,) float32, so that one captured graph serves all settings. The nucleus is that of ``sampling.sample_tokens``,
    plus tokens that are as probable as its last one. A token is drawn from the whole distribution, in the order of the
    vocabulary, which needs no sorting. It is outside the nucleus if the more probable tokens have a mass of ``top_p``,
    or if it is too improbable for ``min_p``; then another one is drawn from the more probable tokens, as in FlashInfer.
    The first draw uses the uniform number, further ones use numbers that are derived from it. A sequence whose logits
    are not finite gets ``NOT_FINITE``.
    """
    sequences, vocabulary = logits.shape
    chosen = torch.empty(sequences, dtype=torch.int64, device=logits.device)
    blocks = triton.cdiv(vocabulary, _VOCABULARY_BLOCK)
    peaks, masses = (torch.empty(sequences, blocks, dtype=torch.float32, device=logits.device) for _ in range(2))
    _sample_from_nucleus[(sequences,)](
        logits, temperature, top_p, min_p, uniform.contiguous(), peaks, masses, chosen,
        logits.stride(0), vocabulary, blocks,
        _VOCABULARY_BLOCK, triton.next_power_of_2(blocks), _DRAWS, NOT_FINITE, num_warps=8,
    )  # fmt: skip
    return chosen


@triton.jit
def _sample_from_nucleus(
    logits, temperature, top_p, min_p, uniform, peaks, masses, chosen, row_stride, vocabulary, blocks,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr, DRAWS: tl.constexpr, BAD: tl.constexpr,
):  # fmt: skip
    """One program per sequence. Reading a large vocabulary takes the time: twice for nearly all sequences.

    The highest logit and the mass of each block of the vocabulary are kept. So a draw reads one block, and the mass of
    more probable tokens is read in blocks that have one: in a trained model these are few.
    """
    number = tl.program_id(0)
    row = logits + number.to(tl.int64) * row_stride
    row_peaks = peaks + number.to(tl.int64) * blocks
    row_masses = masses + number.to(tl.int64) * blocks
    inverse_temperature = 1.0 / tl.load(temperature)
    highest = -1e30
    for block in range(0, blocks):
        ids = block * BLOCK + tl.arange(0, BLOCK)
        logit = tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32)
        peak = tl.maximum(tl.max(logit, 0), -1e30)
        tl.store(row_peaks + block, peak)
        tl.store(row_masses + block, tl.sum(tl.exp((logit - peak) * inverse_temperature), 0))
        highest = tl.maximum(highest, peak)
    tl.debug_barrier()  # what one thread stores, all threads load
    numbers = tl.arange(0, BLOCKS)
    peak_exponents = (tl.load(row_peaks + numbers, mask=numbers < blocks, other=-1e30) - highest) * inverse_temperature
    block_masses = tl.load(row_masses + numbers, mask=numbers < blocks, other=0.0) * tl.exp(peak_exponents)
    total = tl.sum(block_masses, 0)
    is_finite = (total == total) & (highest > -1e30) & (highest < float("inf"))
    wanted = tl.load(top_p) * total
    lowest = tl.log(tl.load(min_p))
    first_uniform = tl.load(uniform + number)
    seed = (first_uniform * 2147483647.0).to(tl.int32)
    random = first_uniform.to(tl.float32)
    pivot = -float("inf")
    token = 0
    draws = 0
    while (draws < DRAWS) & is_finite:
        mass = tl.sum(block_masses, 0)
        target = random * mass
        reached = (tl.cumsum(block_masses, 0) > target) & (block_masses > 0)
        # rounding may keep the target from being reached: take the last block, and the last token, that has a mass
        last_block = tl.max(tl.where(block_masses > 0, numbers, 0), 0)
        block = tl.minimum(tl.min(tl.where(reached, numbers, BLOCKS), 0), last_block)
        before = tl.sum(tl.where(numbers < block, block_masses, 0.0), 0)
        ids = block * BLOCK + tl.arange(0, BLOCK)
        logit = tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32)
        exponent = (logit - highest) * inverse_temperature
        inside = (exponent > pivot) & (ids < vocabulary)
        cumulative = before + tl.cumsum(tl.where(inside, tl.exp(exponent), 0.0), 0)
        first = tl.min(tl.where(inside & (cumulative > target), ids, vocabulary), 0)
        last = tl.max(tl.where(inside, ids, 0), 0)
        token = tl.where(first < vocabulary, first, last)
        pivot = tl.max(tl.where(ids == token, exponent, -float("inf")), 0)
        for other in range(0, blocks):
            mass_above = 0.0
            if (tl.load(row_peaks + other) - highest) * inverse_temperature > pivot:
                ids = other * BLOCK + tl.arange(0, BLOCK)
                logit = tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32)
                exponent = (logit - highest) * inverse_temperature
                mass_above = tl.sum(tl.where(exponent > pivot, tl.exp(exponent), 0.0), 0)
            tl.store(row_masses + other, mass_above)
        tl.debug_barrier()
        block_masses = tl.load(row_masses + numbers, mask=numbers < blocks, other=0.0)
        draws += 1
        if (tl.sum(block_masses, 0) < wanted) & (pivot >= lowest):
            draws = DRAWS
        random = tl.rand(seed, draws)
        tl.debug_barrier()
    tl.store(chosen + number, tl.where(is_finite, token, BAD).to(tl.int64))
