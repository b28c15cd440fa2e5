"""A call of each kernel of a decoder, for which Triton compiles what the decoder will use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tutelage_transformers.attention.segments import scores_of
from tutelage_transformers.generation.paged.blocks import NULL_BLOCK
from tutelage_transformers.generation.paged.decoder import Decoder
from tutelage_transformers.models.support import caps_scores


def first_calls(decoder: Decoder) -> Sequence[Callable[[], Any]]:
    """Return the calls, for one sequence without tokens. They write to the null block alone.

    Triton compiles a kernel for the types of its arguments, for constants such as the size of a head, and for whether
    numbers and addresses are multiples of 16. These are as in the passes of a decoder whose heads are multiples of 16.
    """
    import torch

    from tutelage_transformers.generation.paged.cache_kernels import read_blocks, write_blocks
    from tutelage_transformers.generation.paged.kernels import decode_attention, sample_from_nucleus

    model, state = decoder.model, decoder.state.first(1)
    keys, values = decoder.cache.keys[0], decoder.cache.values[0]
    _, kv_heads, _, size = keys.shape
    config = model.config.get_text_config()
    block = torch.full((1,), NULL_BLOCK, device=model.device)
    offset, length, uniform = (torch.zeros_like(one) for one in (block, state.length, state.uniforms[:, 0]))
    key, query = keys.new_zeros(1, kv_heads, size), keys.new_zeros(1, config.num_attention_heads, size)
    logits = keys.new_zeros(1, len(model.get_output_embeddings().weight))
    scores = scores_of(size, softcap=1.0 if caps_scores(config) else None)
    calls: list[Callable[[], Any]] = [
        lambda: write_blocks(keys, values, block, offset, key, key),
        lambda: read_blocks(keys, values, block, offset),
        lambda: decode_attention(query, keys, values, state.block_table, length, scores),
    ]
    if not decoder.greedy:
        limits = decoder.temperature, decoder.top_p, decoder.min_p
        calls.append(lambda: sample_from_nucleus(logits, *limits, uniform))
    return calls
