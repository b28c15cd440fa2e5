"""What an engine is asked for and what it gives back: rows of token ids, with numbers by which they are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen


@frozen(eq=False)
class Request:
    """One reply that is asked for. Those of one prompt stand together and name the same sequence."""

    row: int
    prompt: Sequence[int]
    limit: int
    """New tokens at most, 1 at least; prompt and reply fit into the model's context."""


@frozen(eq=False)
class Written:
    """What one row wrote."""

    row: int
    """The request's."""
    tokens: list[int]
    """Up to and with the end token, or to the limit."""


def fill_up(rows: Sequence[Any]) -> Any:
    """Random numbers of several rows, (rows, most new tokens), the shorter ones filled up with zeros."""
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence(list(rows), batch_first=True)
