"""Keys and values into pages, and attention over them, beneath any transformers model with full attention.

The tokens of all rows lie behind one another in one packed row, so no token is padded. A model whose attention is
``NAME`` hands its queries, keys and values to ``attend``, with the pass that ``forward`` was called with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import define, frozen

from tutelage_transformers.attention import segments
from tutelage_transformers.attention.activations import fuse_activations
from tutelage_transformers.generation.memory import key_shape

NAME = "tutelage_paged"
"""Under which transformers knows this attention."""

PAGE_SIZE = 16
"""Tokens of a page: few, so that short prompts share whole pages and little of a row's last page is empty."""


@define
class Cache:
    """The pages of all layers: each layer's keys and values are (pages, kv_heads, page_size, head_dim)."""

    keys: list[Any]
    values: list[Any]

    @classmethod
    def empty(cls, model: Any, pages: int) -> Cache:
        """Room for so many pages. Raises ``torch.OutOfMemoryError`` where the device has too little."""
        import torch

        layers, heads, size = key_shape(model)
        shape = (pages, heads, PAGE_SIZE, size)
        keys, values = (
            [torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(layers)] for _ in range(2)
        )
        return cls(keys, values)

    def write(self, layer: int, page: Any, offset: Any, key: Any, value: Any) -> tuple[Any, Any]:
        """Store ``key`` and ``value`` (tokens, kv_heads, head_dim) where ``page`` and ``offset`` (tokens,) say."""
        self.keys[layer][page, :, offset] = key
        self.values[layer][page, :, offset] = value
        return self.keys[layer], self.values[layer]


class Pass(Protocol):
    """One run of the model over packed tokens."""

    cache: Cache
    page: Any
    """(tokens,): where each token's keys and values go."""
    offset: Any

    def attend(self, query: Any, keys: Any, values: Any, scaling: float) -> Any:
        """``query`` (tokens, heads, head_dim) over one layer's pages; gives the same shape."""


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, paged: Pass, **_: Any
) -> tuple[Any, None]:
    """transformers' attention interface: ``query`` (1, heads, tokens, head_dim) gives (1, tokens, heads, head_dim)."""
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    keys, values = paged.cache.write(module.layer_idx, paged.page, paged.offset, key, value)
    return paged.attend(query, keys, values, scaling)[None], None


@frozen(eq=False)
class Appending:
    """One new token for each row, which stands last in its row."""

    cache: Cache
    page: Any
    offset: Any
    table: Any
    """(rows, pages of a row) int32"""
    lengths: Any
    """(rows,): tokens of each row, the new one counted in; 0 for a row that is over."""

    def attend(self, query: Any, keys: Any, values: Any, scaling: float) -> Any:
        """See ``Pass``."""
        if query.is_cuda:
            from tutelage_transformers.generation.paged.kernels import attend_last

            return attend_last(query, keys, values, self.table, self.lengths, scaling)
        return attend_last_plainly(query, keys, values, self.table, self.lengths, scaling)


def attend_last_plainly(query: Any, keys: Any, values: Any, table: Any, lengths: Any, scaling: float) -> Any:
    """What ``kernels.attend_last`` computes, in torch."""
    import torch

    result = torch.zeros_like(query)
    for row, length in enumerate(lengths.tolist()):
        if length:
            key, value = (_tokens(states[table[row].long()], length) for states in (keys, values))
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
            result[row] = segments.attend_one(query[row : row + 1], key, value, scaling)[0]
    return result


def _tokens(pages: Any, length: int) -> Any:
    """(pages, kv_heads, page_size, head_dim) to (length, kv_heads, head_dim)."""
    return pages.transpose(1, 2).flatten(0, 1)[:length]


@frozen(eq=False)
class Reading:
    """Whole prompts, or what of them is not in the cache yet."""

    cache: Cache
    page: Any
    offset: Any
    past_page: Any
    """(all tokens of all rows, what is in the cache already counted in,): where to find them."""
    past_offset: Any
    new: Sequence[int]
    """How many tokens of each row are read."""
    whole: Sequence[int]
    """How many tokens each row has then."""
    new_starts: Any
    """(rows + 1,) int32: where each row's new tokens start, and the end."""
    whole_starts: Any

    def attend(self, query: Any, keys: Any, values: Any, scaling: float) -> Any:
        """See ``Pass``. Every token sees its own row up to itself."""
        key, value = (states[self.past_page, :, self.past_offset] for states in (keys, values))
        longest, longest_whole = max(self.new), max(self.whole)
        return segments.attend(query, key, value, self.new_starts, self.whole_starts, longest, longest_whole, scaling)


def hindrance(model: Any) -> str | None:
    """Why ``attend`` cannot take the place of this model's attention, or None."""
    _, _, size = key_shape(model)
    if size < 16 or size % 8:
        return f"its heads have {size} numbers, and the kernels ask for a multiple of 8, and 16 at least"
    return segments.hindrance(model)


def use(model: Any) -> None:
    """Make ``attend`` this model's attention, and on a GPU one kernel of its activation."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
    if model.device.type == "cuda":
        fuse_activations(model)
