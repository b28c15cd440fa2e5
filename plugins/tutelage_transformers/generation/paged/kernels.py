"""The two Triton kernels. ``attention`` and ``choosing`` hold what they compute in plain torch; tests compare them."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BISECTIONS = 24
"""Halvings of the range in which the nucleus' least logit is sought: down to a few float32 steps."""
_VOCABULARY_BLOCK = 4096


def attend_last(query: Any, keys: Any, values: Any, table: Any, lengths: Any, scaling: float) -> Any:
    """Attention of one new token a row: ``query`` (rows, heads, head_dim) over ``lengths`` (rows,) tokens in pages.

    ``keys`` and ``values`` are (pages, kv_heads, page_size, head_dim), ``table`` (rows, pages of a row) int32. Gives
    (rows, heads, head_dim), zeros for a row of length 0.
    """
    rows, heads, head_dim = query.shape
    _, kv_heads, page_size, _ = keys.shape
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    main = 1 << (head_dim.bit_length() - 1)
    _attend_last[(heads, rows)](
        query, keys, values, table, lengths, out, scaling,
        query.stride(0), query.stride(1), table.stride(0), kv_heads, heads // kv_heads,
        page_size, head_dim, main, max(16, triton.next_power_of_2(head_dim - main)) if head_dim > main else 0,
        num_warps=1,
    )  # fmt: skip
    return out


@triton.jit
def _attend_last(
    query, keys, values, table, lengths, out, scaling,
    row_stride, head_stride, table_stride, kv_heads, group,
    PAGE: tl.constexpr, DIM: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """One warp for each head of each row, a page at a time, with a running softmax (Milakov and Gimelshein, 2018).

    Matrix units take sixteen queries at least; fifteen of them are empty. Nothing is lost: reading the keys and values
    is what takes the time. A head of 80 is read as 64 and 16: padded to 128, fewer warps would find room.
    """
    head = tl.program_id(0)
    row = tl.program_id(1)
    length = tl.load(lengths + row)
    first = (tl.arange(0, 16) == 0)[:, None]
    start_of_query = query + row * row_stride + head * head_stride
    dims = tl.arange(0, MAIN)
    vector = tl.load(start_of_query + dims)
    asked = tl.where(first, vector[None, :], 0.0).to(vector.dtype)
    mixed = tl.zeros([16, MAIN], dtype=tl.float32)
    if REST:
        more = MAIN + tl.arange(0, REST)
        vector = tl.load(start_of_query + more, mask=more < DIM, other=0.0)
        asked_more = tl.where(first, vector[None, :], 0.0).to(vector.dtype)
        mixed_more = tl.zeros([16, REST], dtype=tl.float32)
    highest = tl.full([16], -1e30, dtype=tl.float32)
    total = tl.zeros([16], dtype=tl.float32)
    offsets = tl.arange(0, PAGE)
    for start in tl.range(0, length, PAGE, num_stages=2):
        valid = start + offsets < length
        page = tl.load(table + row * table_stride + start // PAGE).to(tl.int64)
        place = ((page * kv_heads + head // group) * PAGE + offsets[:, None]) * DIM
        key = tl.load(keys + place + dims[None, :], mask=valid[:, None], other=0.0)
        value = tl.load(values + place + dims[None, :], mask=valid[:, None], other=0.0)
        scores = tl.dot(asked, tl.trans(key), input_precision="ieee")
        if REST:
            there = valid[:, None] & (more < DIM)[None, :]
            key_more = tl.load(keys + place + more[None, :], mask=there, other=0.0)
            value_more = tl.load(values + place + more[None, :], mask=there, other=0.0)
            scores += tl.dot(asked_more, tl.trans(key_more), input_precision="ieee")
        scores = tl.where(valid[None, :], scores * scaling, -1e30)
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - higher[:, None])
        kept = tl.exp(highest - higher)
        shares = weights.to(value.dtype)
        mixed = mixed * kept[:, None] + tl.dot(shares, value, input_precision="ieee")
        if REST:
            mixed_more = mixed_more * kept[:, None] + tl.dot(shares, value_more, input_precision="ieee")
        total = total * kept + tl.sum(weights, 1)
        highest = higher
    total = tl.where(total > 0, total, 1.0)[:, None]
    start_of_out = out + (row * tl.num_programs(0) + head) * DIM
    result = tl.sum(tl.where(first, mixed / total, 0.0), 0)
    tl.store(start_of_out + dims, result.to(out.dtype.element_ty))
    if REST:
        result = tl.sum(tl.where(first, mixed_more / total, 0.0), 0)
        tl.store(start_of_out + more, result.to(out.dtype.element_ty), mask=more < DIM)


def choose_in_nucleus(logits: Any, temperature: Any, top_p: Any, uniform: Any) -> Any:
    """Sample a token of each row's nucleus: ``logits`` (rows, vocabulary), ``uniform`` (rows,) float32, ids (rows,).

    ``temperature`` and ``top_p`` are float32 tensors of one number, so that a captured graph serves all settings. The
    nucleus is ``choosing.choose``'s, with tokens as probable as its last one counted in; within it, the uniform number
    falls into the tokens' shares in the order of the vocabulary, which needs no sorting.
    """
    rows, vocabulary = logits.shape
    chosen = torch.empty(rows, dtype=torch.int64, device=logits.device)
    _choose_in_nucleus[(rows,)](
        logits, temperature, top_p, uniform.contiguous(), chosen, logits.stride(0), vocabulary,
        _VOCABULARY_BLOCK, _BISECTIONS, num_warps=8,
    )  # fmt: skip
    return chosen


@triton.jit
def _mass_from(row, vocabulary, warmth, highest, least, BLOCK: tl.constexpr):
    """Sum of exp((logit - highest) * warmth) over the tokens whose exponent is at least ``least``."""
    sums = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        places = start + tl.arange(0, BLOCK)
        logit = tl.load(row + places, mask=places < vocabulary, other=-float("inf")).to(tl.float32)
        exponent = (logit - highest) * warmth
        sums += tl.where(exponent >= least, tl.exp(exponent), 0.0)
    return tl.sum(sums, 0)


@triton.jit
def _choose_in_nucleus(
    logits, temperature, top_p, uniform, chosen, row_stride, vocabulary,
    BLOCK: tl.constexpr, BISECTIONS: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0)
    row = logits + number.to(tl.int64) * row_stride
    warmth = 1.0 / tl.load(temperature)
    maxima = tl.full([BLOCK], -float("inf"), dtype=tl.float32)
    for start in range(0, vocabulary, BLOCK):
        places = start + tl.arange(0, BLOCK)
        maxima = tl.maximum(maxima, tl.load(row + places, mask=places < vocabulary, other=-float("inf")).to(tl.float32))
    highest = tl.max(maxima, 0)
    # exponents under -80 weigh less than float32 can tell from nothing beside the first token's 1
    low = -80.0
    total = _mass_from(row, vocabulary, warmth, highest, low, BLOCK)
    wanted = tl.load(top_p) * total
    high = 0.0
    if _mass_from(row, vocabulary, warmth, highest, high, BLOCK) >= wanted:
        low = high
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if _mass_from(row, vocabulary, warmth, highest, middle, BLOCK) >= wanted:
            low = middle
        else:
            high = middle
    target = tl.load(uniform + number) * _mass_from(row, vocabulary, warmth, highest, low, BLOCK)
    before = 0.0
    token = 0
    found = 0
    for start in range(0, vocabulary, BLOCK):
        places = start + tl.arange(0, BLOCK)
        logit = tl.load(row + places, mask=places < vocabulary, other=-float("inf")).to(tl.float32)
        exponent = (logit - highest) * warmth
        inside = exponent >= low
        shares = tl.where(inside, tl.exp(exponent), 0.0)
        upto = before + tl.cumsum(shares, 0)
        here = inside & (upto > target)
        first = tl.min(tl.where(here, places, vocabulary), 0)
        last = tl.max(tl.where(inside, places, -1), 0)
        # until the target is reached, the last token inside stands in: rounding may leave the target just out of reach
        token = tl.where(found == 1, token, tl.where(first < vocabulary, first, tl.where(last >= 0, last, token)))
        found = tl.where(first < vocabulary, 1, found)
        before += tl.sum(shares, 0)
    tl.store(chosen + number, token.to(tl.int64))
