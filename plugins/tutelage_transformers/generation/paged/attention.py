"""Keys and values in blocks, and attention over them, below any transformers model whose layers see all or a window.

The tokens of all sequences are concatenated into one packed row, so no token is padding. A model whose attention is
``NAME`` passes its queries, keys and values to ``attend``, with the pass that ``forward`` was called with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define, frozen

from tutelage_transformers.attention import probing, segments
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.attention.norms import fuse_norms
from tutelage_transformers.attention.rotary import fuse_rotations
from tutelage_transformers.attention.segments import Scores
from tutelage_transformers.generation.memory import kv_shape

NAME = "tutelage_paged"
"""The name under which transformers knows this attention."""

BLOCK_SIZE = 16
"""Tokens per block: few, so that short prompts share full blocks and a sequence's last block wastes little."""


@define
class Cache:
    """The blocks of all layers: each layer's keys and values are (blocks, kv_heads, block_size, head_dim)."""

    keys: list[Any]
    values: list[Any]

    @classmethod
    def empty(cls, model: Any, blocks: int) -> Cache:
        """Allocate ``blocks`` blocks. Raises ``torch.OutOfMemoryError`` if the device has too little memory."""
        import torch

        layers, heads, size = kv_shape(model)
        shape = (blocks, heads, BLOCK_SIZE, size)
        keys, values = (
            [torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(layers)] for _ in range(2)
        )
        return cls(keys, values)

    def write(self, layer: int, block: Any, offset: Any, key: Any, value: Any) -> tuple[Any, Any]:
        """Store ``key`` and ``value`` (tokens, kv_heads, head_dim) at ``block`` and ``offset`` (tokens,).

        Returns the layer's keys and values.
        """
        keys, values = self.keys[layer], self.values[layer]
        if key.is_cuda:
            from tutelage_transformers.generation.paged.cache_kernels import write_blocks

            write_blocks(keys, values, block, offset, key, value)
        else:
            keys[block, :, offset] = key
            values[block, :, offset] = value
        return keys, values


class ForwardPass(Protocol):
    """One run of the model over packed tokens."""

    cache: Cache
    block: Any
    """(tokens,): the block of each token's keys and values."""
    offset: Any
    """(tokens,): their position in the block."""

    def attend(self, query: Any, keys: Any, values: Any, scores: Scores) -> Any:
        """Attend with ``query`` (tokens, heads, head_dim) over one layer's blocks; returns the same shape."""


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    paged: ForwardPass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Implement transformers' attention interface: ``query`` (1, heads, tokens, head_dim) gives (1, tokens, heads,
    head_dim).
    """
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    keys, values = paged.cache.write(module.layer_idx, paged.block, paged.offset, key, value)
    scores = segments.scores_of(query.shape[-1], scaling, sliding_window, softcap)
    return paged.attend(query, keys, values, scores)[None], None


@frozen(eq=False)
class DecodePass:
    """One new token per sequence, which is the sequence's last."""

    cache: Cache
    block: Any
    offset: Any
    block_table: Any
    """(sequences, blocks per sequence) int32."""
    lengths: Any
    """(sequences,): number of tokens including the new one; 0 for a sequence that has ended."""

    def attend(self, query: Any, keys: Any, values: Any, scores: Scores) -> Any:
        """See ``ForwardPass``."""
        if query.is_cuda:
            from tutelage_transformers.generation.paged.kernels import decode_attention

            return decode_attention(query, keys, values, self.block_table, self.lengths, scores)
        return decode_attention_in_torch(query, keys, values, self.block_table, self.lengths, scores)


def decode_attention_in_torch(
    query: Any, keys: Any, values: Any, block_table: Any, lengths: Any, scores: Scores
) -> Any:
    """Compute the same as ``kernels.decode_attention``, in torch."""
    import torch

    result = torch.zeros_like(query)
    for sequence, length in enumerate(lengths.tolist()):
        if length:
            key, value = (_tokens(states[block_table[sequence].long()], length) for states in (keys, values))
            key, value = (segments.repeat_heads(states, query.shape[1]) for states in (key, value))
            result[sequence] = segments.attend_one(query[sequence : sequence + 1], key, value, scores)[0]
    return result


def _tokens(blocks: Any, length: int) -> Any:
    """Reshape (blocks, kv_heads, block_size, head_dim) to (length, kv_heads, head_dim)."""
    return blocks.transpose(1, 2).flatten(0, 1)[:length]


@frozen(eq=False)
class PrefillPass:
    """The prompts of several sequences, without the tokens that are in the cache already."""

    cache: Cache
    block: Any
    offset: Any
    key_block: Any
    """(all tokens of all sequences, those in the cache included,): the block of each token's keys and values."""
    key_offset: Any
    """As ``key_block``: their position in the block."""
    new: Sequence[int]
    """Number of tokens of each sequence that are computed."""
    whole: Sequence[int]
    """Number of all tokens of each sequence."""
    new_starts: Any
    """(sequences + 1,) int32: the start of each sequence's computed tokens, and the end of the last."""
    whole_starts: Any
    """(sequences + 1,) int32: the same for all tokens."""

    def attend(self, query: Any, keys: Any, values: Any, scores: Scores) -> Any:
        """See ``ForwardPass``. Every token attends to its own sequence up to itself."""
        if query.is_cuda:
            from tutelage_transformers.generation.paged.cache_kernels import read_blocks

            key, value = read_blocks(keys, values, self.key_block, self.key_offset)
        else:
            key, value = (states[self.key_block, :, self.key_offset] for states in (keys, values))
        places = segments.Segments(self.new_starts, self.whole_starts, max(self.new), max(self.whole))
        return segments.attend(query, key, value, places, scores)


def unsupported_reason(model: Any) -> str | None:
    """Return why ``attend`` cannot replace this model's attention, or None if it can."""
    _, _, size = kv_shape(model)
    if not 16 <= size <= 256 or size % 8:
        return f"its head dimension is {size}, and the kernels need a multiple of 8, from 16 to 256"
    if reason := segments.unsupported_reason(model) or probing.unsupported_reason(model):
        return reason
    return None if probing.has_shape(model, kv_shape(model)) else "its keys and values have a shape of their own"


def install(model: Any) -> None:
    """Make ``attend`` the attention of this model; on a GPU, fuse its activations, norms and rotations too."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
    if model.device.type == "cuda":
        fuse_activations(model)
        fuse_norms(model)
        fuse_rotations(model)
