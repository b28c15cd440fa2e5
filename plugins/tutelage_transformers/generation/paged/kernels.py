"""The two Triton kernels. ``attention`` and ``sampling`` compute the same in plain torch; tests compare the results."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BISECTIONS = 24
"""Halvings of the range that contains the smallest logit of the nucleus: down to a few float32 steps."""
_VOCABULARY_BLOCK = 4096


def decode_attention(query: Any, keys: Any, values: Any, block_table: Any, lengths: Any, scaling: float) -> Any:
    """Compute the attention of one new token per sequence over its keys and values in blocks.

    ``query`` is (sequences, heads, head_dim), ``keys`` and ``values`` are (blocks, kv_heads, block_size, head_dim),
    ``block_table`` is (sequences, blocks per sequence) int32 and ``lengths`` (sequences,). Returns (sequences, heads,
    head_dim), zeros for a sequence of length 0.
    """
    sequences, heads, head_dim = query.shape
    _, kv_heads, block_size, _ = keys.shape
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    main = 1 << (head_dim.bit_length() - 1)
    _decode_attention[(heads, sequences)](
        query, keys, values, block_table, lengths, out, scaling,
        query.stride(0), query.stride(1), block_table.stride(0), kv_heads, heads // kv_heads,
        block_size, head_dim, main, max(16, triton.next_power_of_2(head_dim - main)) if head_dim > main else 0,
        num_warps=1,
    )  # fmt: skip
    return out


@triton.jit
def _decode_attention(
    query, keys, values, block_table, lengths, out, scaling,
    row_stride, head_stride, table_stride, kv_heads, group,
    BLOCK: tl.constexpr, DIM: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """One warp for each head of each sequence, one block at a time, with a running softmax.

    The running softmax is that of Milakov and Gimelshein (2018). Matrix units take at least sixteen queries, of which
    fifteen are zero. This costs nothing, because reading the keys and values takes the time. A head of 80 is read as
    64 and 16: padded to 128, fewer warps would fit.
    """
    head = tl.program_id(0)
    row = tl.program_id(1)
    length = tl.load(lengths + row)
    first = (tl.arange(0, 16) == 0)[:, None]
    start_of_query = query + row * row_stride + head * head_stride
    dims = tl.arange(0, MAIN)
    vector = tl.load(start_of_query + dims)
    queries = tl.where(first, vector[None, :], 0.0).to(vector.dtype)
    weighted = tl.zeros([16, MAIN], dtype=tl.float32)
    if REST:
        more = MAIN + tl.arange(0, REST)
        vector = tl.load(start_of_query + more, mask=more < DIM, other=0.0)
        queries_more = tl.where(first, vector[None, :], 0.0).to(vector.dtype)
        weighted_more = tl.zeros([16, REST], dtype=tl.float32)
    highest = tl.full([16], -1e30, dtype=tl.float32)
    total = tl.zeros([16], dtype=tl.float32)
    offsets = tl.arange(0, BLOCK)
    for start in tl.range(0, length, BLOCK, num_stages=2):
        valid = start + offsets < length
        block = tl.load(block_table + row * table_stride + start // BLOCK).to(tl.int64)
        address = ((block * kv_heads + head // group) * BLOCK + offsets[:, None]) * DIM
        key = tl.load(keys + address + dims[None, :], mask=valid[:, None], other=0.0)
        value = tl.load(values + address + dims[None, :], mask=valid[:, None], other=0.0)
        scores = tl.dot(queries, tl.trans(key), input_precision="ieee")
        if REST:
            valid_more = valid[:, None] & (more < DIM)[None, :]
            key_more = tl.load(keys + address + more[None, :], mask=valid_more, other=0.0)
            value_more = tl.load(values + address + more[None, :], mask=valid_more, other=0.0)
            scores += tl.dot(queries_more, tl.trans(key_more), input_precision="ieee")
        scores = tl.where(valid[None, :], scores * scaling, -1e30)
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - new_highest[:, None])
        rescaling = tl.exp(highest - new_highest)
        rounded = weights.to(value.dtype)
        weighted = weighted * rescaling[:, None] + tl.dot(rounded, value, input_precision="ieee")
        if REST:
            weighted_more = weighted_more * rescaling[:, None] + tl.dot(rounded, value_more, input_precision="ieee")
        total = total * rescaling + tl.sum(weights, 1)
        highest = new_highest
    total = tl.where(total > 0, total, 1.0)[:, None]
    start_of_out = out + (row * tl.num_programs(0) + head) * DIM
    result = tl.sum(tl.where(first, weighted / total, 0.0), 0)
    tl.store(start_of_out + dims, result.to(out.dtype.element_ty))
    if REST:
        result = tl.sum(tl.where(first, weighted_more / total, 0.0), 0)
        tl.store(start_of_out + more, result.to(out.dtype.element_ty), mask=more < DIM)


def sample_from_nucleus(logits: Any, temperature: Any, top_p: Any, uniform: Any) -> Any:
    """Sample a token from the nucleus of each sequence; returns token ids (sequences,).

    ``logits`` is (sequences, vocabulary), ``uniform`` (sequences,) float32. ``temperature`` and ``top_p`` are (1,)
    float32, so that one captured graph serves all settings. The nucleus is that of ``sampling.sample_tokens``, plus
    tokens that are as probable as its last one. The uniform number selects a token in the order of the vocabulary,
    which needs no sorting.
    """
    sequences, vocabulary = logits.shape
    chosen = torch.empty(sequences, dtype=torch.int64, device=logits.device)
    _sample_from_nucleus[(sequences,)](
        logits, temperature, top_p, uniform.contiguous(), chosen, logits.stride(0), vocabulary,
        _VOCABULARY_BLOCK, _BISECTIONS, num_warps=8,
    )  # fmt: skip
    return chosen


@triton.jit
def _mass_from(row, vocabulary, inverse_temperature, highest, lowest, BLOCK: tl.constexpr):
    """Sum exp((logit - highest) * inverse_temperature) over the tokens whose exponent is at least ``lowest``."""
    sums = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        logit = tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32)
        exponent = (logit - highest) * inverse_temperature
        sums += tl.where(exponent >= lowest, tl.exp(exponent), 0.0)
    return tl.sum(sums, 0)


@triton.jit
def _sample_from_nucleus(
    logits, temperature, top_p, uniform, chosen, row_stride, vocabulary,
    BLOCK: tl.constexpr, BISECTIONS: tl.constexpr,
):  # fmt: skip
    """One program per sequence: bisect the smallest exponent of the nucleus, then find the token in one more pass."""
    number = tl.program_id(0)
    row = logits + number.to(tl.int64) * row_stride
    inverse_temperature = 1.0 / tl.load(temperature)
    maxima = tl.full([BLOCK], -float("inf"), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        maxima = tl.maximum(maxima, tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32))
    highest = tl.max(maxima, 0)
    # in float32, exponents below -80 vanish beside the 1 of the most probable token
    low = -80.0
    total = _mass_from(row, vocabulary, inverse_temperature, highest, low, BLOCK)
    wanted = tl.load(top_p) * total
    high = 0.0
    if _mass_from(row, vocabulary, inverse_temperature, highest, high, BLOCK) >= wanted:
        low = high
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if _mass_from(row, vocabulary, inverse_temperature, highest, middle, BLOCK) >= wanted:
            low = middle
        else:
            high = middle
    target = tl.load(uniform + number) * _mass_from(row, vocabulary, inverse_temperature, highest, low, BLOCK)
    before = 0.0
    token = 0
    found = 0
    for start in range(0, vocabulary, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        logit = tl.load(row + ids, mask=ids < vocabulary, other=-float("inf")).to(tl.float32)
        exponent = (logit - highest) * inverse_temperature
        inside = exponent >= low
        masses = tl.where(inside, tl.exp(exponent), 0.0)
        cumulative = before + tl.cumsum(masses, 0)
        reached = inside & (cumulative > target)
        first = tl.min(tl.where(reached, ids, vocabulary), 0)
        last = tl.max(tl.where(inside, ids, -1), 0)
        # until the target is reached, take the last token inside: rounding may keep the target from being reached
        token = tl.where(found == 1, token, tl.where(first < vocabulary, first, tl.where(last >= 0, last, token)))
        found = tl.where(first < vocabulary, 1, found)
        before += tl.sum(masses, 0)
    tl.store(chosen + number, token.to(tl.int64))
