"""The probabilities of some replies, from one forward pass over the prompt: nothing is decoded.

The replies differ in their last token alone, for example ``score: 0`` to ``score: 5``. The tokens before it are put
after the prompt, as in training, and the model is asked for the probabilities of the next token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from tutelage_transformers.generation import padded, paged
from tutelage_transformers.generation.engine import is_paged, stop_tokens
from tutelage_transformers.models.chat import check_opens_no_block, encode, reply_tokens
from tutelage_transformers.models.loading import LoadedModel, context_length


@frozen
class ReplyProbabilities:
    """The probabilities of the replies to one prompt."""

    prompt: int
    """Index of the prompt, from 0."""
    probabilities: tuple[float, ...]
    """Probability of the last token of each reply, at temperature 1; empty if there is none."""
    fits: bool = True
    """False if the prompt leaves no room for a reply in the model's context."""
    is_finite: bool = True
    """False if the model gave logits that are NaN or infinite."""


def reply_probabilities(
    loaded: LoadedModel,
    prompts: Sequence[str],
    replies: Sequence[str],
    batch_size: int | None = None,
    engine: str = "auto",
) -> Iterator[list[ReplyProbabilities]]:
    """Compute the probabilities of ``replies`` to each of the templated prompts; yields batches, in no fixed order.

    ``batch_size`` and ``engine`` are those of ``engine.generate``. Raises ``InputError`` as it does, and if the replies
    do not differ in their last token alone, or if a prompt opens a thinking block.
    """
    begin, tokens = reply_tokens(loaded.tokenizer, replies)
    for prompt in prompts:
        check_opens_no_block(loaded.tokenizer, prompt)
    ids = encode(loaded.tokenizer, prompts)
    context = context_length(loaded.model.config)
    fitting = [index for index, prompt in enumerate(ids) if prompt and len(prompt) + len(begin) < context]
    if unfit := sorted(set(range(len(prompts))) - set(fitting)):
        yield [ReplyProbabilities(index, (), fits=False) for index in unfit]
    rows = [[*ids[index], *begin] for index in fitting]
    for batch in _weighed(loaded, rows, tokens, batch_size, engine):
        yield [
            ReplyProbabilities(fitting[one.index], one.probabilities or (), is_finite=one.probabilities is not None)
            for one in batch
        ]


def _weighed(loaded: LoadedModel, rows: Any, tokens: Sequence[int], batch_size: int | None, engine: str) -> Any:
    if is_paged(loaded, engine):
        return paged.weigh(loaded, rows, tokens, stop_tokens(loaded), batch_size)
    return padded.weigh(loaded, rows, tokens, batch_size)
