"""Which sequence owns which block of the cache.

A block holds the keys and values of a few consecutive tokens. A full block of a prompt is registered under its tokens
and the block before it. A prompt that begins like that of a running sequence shares the blocks of the common prefix:
the n candidates of one prompt do, and so do all judgements under one rubric.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field, frozen

NULL_BLOCK = 0
"""Never given to a sequence: sequences that have ended write there."""

_Key = tuple[int, tuple[int, ...]]
"""The block before (``NULL_BLOCK`` for none), and the tokens of this block."""


@frozen
class Allocation:
    """The blocks of one sequence."""

    blocks: tuple[int, ...]
    """In the order of the sequence's tokens."""
    cached: int
    """Number of tokens at the start whose keys and values an earlier sequence has computed, or computes in the same
    pass."""


@define
class BlockPool:
    """Blocks 1 to ``blocks - 1``, each of ``block_size`` tokens. A block is free or has one or more owners."""

    blocks: int
    block_size: int
    _free: list[int] = field(init=False)
    _owners: dict[int, int] = field(init=False, factory=dict)
    """Number of sequences that use a block."""
    _known: dict[_Key, int] = field(init=False, factory=dict)
    _keys: dict[int, _Key] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._free = list(range(self.blocks - 1, NULL_BLOCK, -1))

    @property
    def free(self) -> int:
        """Number of blocks that no sequence uses."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Return the number of blocks of a sequence of ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, prompt: Sequence[int], length: int) -> Allocation | None:
        """Allocate the blocks of a sequence that begins with ``prompt`` and grows to ``length`` tokens.

        Returns None, and allocates nothing, if too few are free. The last token of a prompt is never shared: computing
        it gives the sequence its first logits.
        """
        size = self.block_size
        keys = [tuple(prompt[end - size : end]) for end in range(size, len(prompt), size)]
        blocks: list[int] = []
        for key in keys:
            known = self._known.get((blocks[-1] if blocks else NULL_BLOCK, key))
            if known is None:
                break
            blocks.append(known)
        shared = len(blocks)
        if self.needed(length) - shared > self.free:
            return None
        blocks += [self._free.pop() for _ in range(self.needed(length) - shared)]
        for block in blocks:
            self._owners[block] = self._owners.get(block, 0) + 1
        for index, key in enumerate(keys[shared:], shared):
            self._register(blocks[index], (blocks[index - 1] if index else NULL_BLOCK, key))
        return Allocation(tuple(blocks), shared * size)

    def release(self, allocation: Allocation) -> None:
        """Release a sequence's blocks; those without another owner are free, and their tokens are forgotten."""
        for block in reversed(allocation.blocks):
            self._owners[block] -= 1
            if not self._owners[block]:
                del self._owners[block]
                if key := self._keys.pop(block, None):
                    del self._known[key]
                self._free.append(block)

    def _register(self, block: int, key: _Key) -> None:
        self._known[key] = block
        self._keys[block] = key
