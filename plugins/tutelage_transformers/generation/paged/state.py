"""What the rows of a decoder have on the device: one tensor for each thing that there is to know of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import fields, frozen

from tutelage_transformers.generation.paged.pages import IDLE_PAGE


@frozen(eq=False)
class State:
    """All rows, in slots. The tensors are written in place: captured steps know them by their addresses."""

    table: Any
    """(rows, pages of a row) int32: where a row's keys and values are."""
    uniform: Any
    """(rows, width) float64: its random numbers."""
    written: Any
    """(rows, width): its new tokens."""
    length: Any
    """(rows,): tokens whose keys and values are in the cache; the next one's position."""
    limit: Any
    """(rows,): new tokens at most."""
    count: Any
    """(rows,): new tokens so far."""
    token: Any
    """(rows,): the last of them, which the next step reads."""
    running: Any
    """(rows,): whether it is being written."""

    @classmethod
    def empty(cls, rows: int, width: int, row_pages: int, device: Any) -> State:
        """Rows of up to ``width`` new tokens and ``row_pages`` pages; none runs."""
        import torch

        def numbers() -> Any:
            return torch.zeros(rows, dtype=torch.int64, device=device)

        return cls(
            table=torch.full((rows, row_pages), IDLE_PAGE, dtype=torch.int32, device=device),
            uniform=torch.zeros(rows, width, dtype=torch.float64, device=device),
            written=torch.zeros(rows, width, dtype=torch.int64, device=device),
            length=numbers(),
            limit=numbers(),
            count=numbers(),
            token=numbers(),
            running=torch.zeros(rows, dtype=torch.bool, device=device),
        )

    @property
    def width(self) -> int:
        """New tokens that a row has room for."""
        return int(self.written.shape[1])

    def first(self, size: int) -> State:
        """The same tensors' first rows."""
        return State(*(tensor[:size] for tensor in self._tensors()))

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Put rows into other slots; their keys and values stay where they are."""
        import torch

        at, to = (torch.tensor(slots, device=self.token.device) for slots in (source, target))
        for tensor in self._tensors():
            tensor[to] = tensor[at]
        self.running[at] = False

    def progress(self) -> tuple[list[bool], list[int]]:
        """Which rows run, and how many tokens each has written. Waits for the device."""
        import torch

        running, count = torch.stack([self.running.long(), self.count]).tolist()
        return [bool(runs) for runs in running], count

    def replies(self, slots: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
        """What the rows in these slots have written."""
        import torch

        rows = self.written[torch.tensor(slots, device=self.written.device), : max(counts)].tolist()
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def _tensors(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(State)]
