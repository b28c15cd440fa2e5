"""What an engine is given and what it returns: sequences of token ids, each with a number that identifies it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen


@frozen(eq=False)
class GenerationRequest:
    """One sequence to generate. Requests with one prompt are adjacent and refer to the same list of tokens."""

    index: int
    """The number of the sequence."""
    prompt: Sequence[int]
    """Token ids."""
    max_new_tokens: int
    """At least 1; prompt and new tokens fit into the model's context."""


@frozen(eq=False)
class GeneratedTokens:
    """The new tokens of one sequence."""

    index: int
    """That of the request."""
    tokens: list[int]
    """Token ids up to and including the stop token, or up to the limit. The last one is ``sampling.NOT_FINITE`` if the
    model gave logits that are not finite."""


OnTokens = Callable[[list[int]], None]
"""Is called with the new tokens so far of the only sequence that is generated."""


@frozen(eq=False)
class WeighedTokens:
    """The probabilities of some tokens after one prompt."""

    index: int
    """Index of the prompt."""
    probabilities: tuple[float, ...] | None
    """In the order of the tokens; None if the model gave logits that are not finite."""


def stack_padded(rows: Sequence[Any]) -> Any:
    """Stack tensors (length,) of different lengths into one (rows, longest length), padded with zeros at the end."""
    from torch.nn.utils.rnn import pad_sequence

    return pad_sequence(list(rows), batch_first=True)
