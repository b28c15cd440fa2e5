"""The state of a decoder's sequences on the device: one tensor for each property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import fields, frozen

from tutelage_transformers.generation.paged.blocks import NULL_BLOCK


@frozen(eq=False)
class State:
    """The sequences, each in a slot. The tensors are updated in place: captured graphs refer to their addresses."""

    block_table: Any
    """(slots, blocks per sequence) int32: the blocks of a sequence's keys and values."""
    uniforms: Any
    """(slots, width) float64: the random numbers of a sequence."""
    generated: Any
    """(slots, width): the new tokens of a sequence."""
    length: Any
    """(slots,): number of tokens whose keys and values are in the cache, which is the position of the next token."""
    limit: Any
    """(slots,): maximum number of new tokens."""
    count: Any
    """(slots,): number of new tokens so far."""
    last_token: Any
    """(slots,): the newest token, which is the input of the next step."""
    running: Any
    """(slots,) bool: whether a sequence has not ended."""

    @classmethod
    def empty(cls, slots: int, width: int, blocks_per_sequence: int, device: Any) -> State:
        """Return the state of no running sequence, with room for ``width`` new tokens per sequence."""
        import torch

        def integers() -> Any:
            return torch.zeros(slots, dtype=torch.int64, device=device)

        return cls(
            block_table=torch.full((slots, blocks_per_sequence), NULL_BLOCK, dtype=torch.int32, device=device),
            uniforms=torch.zeros(slots, width, dtype=torch.float64, device=device),
            generated=torch.zeros(slots, width, dtype=torch.int64, device=device),
            length=integers(),
            limit=integers(),
            count=integers(),
            last_token=integers(),
            running=torch.zeros(slots, dtype=torch.bool, device=device),
        )

    @property
    def slots(self) -> int:
        """Maximum number of sequences."""
        return len(self.running)

    @property
    def width(self) -> int:
        """Maximum number of new tokens per sequence."""
        return int(self.generated.shape[1])

    def first(self, slots: int) -> State:
        """Return views of the first ``slots`` slots."""
        return State(*(tensor[:slots] for tensor in self._tensors()))

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Move sequences to other slots; their blocks stay the same."""
        import torch

        at, to = (torch.tensor(slots, device=self.last_token.device) for slots in (source, target))
        for tensor in self._tensors():
            tensor[to] = tensor[at]
        self.running[at] = False

    def progress(self) -> tuple[list[bool], list[int]]:
        """Return whether each sequence runs, and its number of new tokens. Waits for the device."""
        import torch

        running, count = torch.stack([self.running.long(), self.count]).tolist()
        return [bool(runs) for runs in running], count

    def generated_tokens(self, slots: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
        """Return the new tokens of the sequences in these slots, ``counts`` of each."""
        import torch

        rows = self.generated[torch.tensor(slots, device=self.generated.device), : max(counts)].tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def _tensors(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(State)]
