"""Generation behind one interface: prompts in, replies out, for candidates, demonstrations and judging alike.

On an NVIDIA GPU ``paged`` does the work and keeps a batch full; elsewhere ``padded`` does, batch after batch. Greedy
replies are, token for token, those of transformers' ``generate``. The loops are our own because ``generate`` neither
shares a prompt among samples nor lets go of finished rows, and draws its random numbers from one stream for the whole
batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from tutelage.records import Sampling
from tutelage_transformers.generation import padded, paged
from tutelage_transformers.generation.choosing import uniforms
from tutelage_transformers.generation.requests import Request, Written
from tutelage_transformers.models.chat import encode
from tutelage_transformers.models.loading import Loaded, context_length


@frozen
class Reply:
    """One reply to one prompt."""

    prompt: int
    """Which of the prompts, from 0."""
    sample: int
    """Which of its n replies, from 0."""
    text: str
    """The reply alone, without end and pad tokens, stripped."""
    tokens: int
    """Its length, the end token not counted."""
    ended: bool
    """False where the limit of new tokens came before the end token."""
    fits: bool = True
    """False where the prompt leaves no room for a reply in the model's context: nothing was generated."""


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    n: int,
    sampling: Sampling,
    batch_size: int | None = None,
    engine: str = "auto",
) -> Iterator[list[Reply]]:
    """Reply n times to each of the prompts, which are already templated; yields batch by batch, in no set order.

    At most ``batch_size`` rows run at once (None: as many as fit into memory); in padded batches always all n of a
    prompt. ``engine`` is ``paged``, ``padded``, or ``auto``: paged where it serves the model. The same model, prompts
    and sampling give the same replies. A reply ends at the latest where the model's context does; a prompt that fills
    the context gives replies with ``fits`` False. Raises ``InputError`` where a model cannot be paged that is asked to,
    and where the GPU is too small for one row.
    """
    ids = encode(loaded.tokenizer, prompts)
    context = context_length(loaded.model.config)
    room = [context - len(row) if row else 0 for row in ids]
    if unfit := [index for index in range(len(prompts)) if room[index] < 1]:
        yield [Reply(index, sample, "", 0, False, fits=False) for index in unfit for sample in range(n)]
    requests = [
        Request(index * n + sample, ids[index], min(sampling.max_new_tokens, room[index]))
        for index in range(len(prompts))
        if room[index] > 0
        for sample in range(n)
    ]

    def draw(row: int) -> Any:
        prompt, sample = divmod(row, n)
        return uniforms(sampling.seed, prompts[prompt], sample, min(sampling.max_new_tokens, room[prompt]))

    write = paged.write if _is_paged(loaded, engine) else padded.write
    for written in write(loaded, requests, sampling, end_tokens(loaded), draw, batch_size):
        yield _replies(loaded, n, written)


def _is_paged(loaded: Loaded, engine: str) -> bool:
    if engine == "paged":
        paged.check(loaded)
    return engine == "paged" or (engine == "auto" and paged.is_for(loaded))


def _replies(loaded: Loaded, n: int, written: Sequence[Written]) -> list[Reply]:
    """Texts from token ids."""
    ends = end_tokens(loaded)
    ended = [bool(row.tokens) and row.tokens[-1] in ends for row in written]
    tokens = [row.tokens[:-1] if over else row.tokens for row, over in zip(written, ended, strict=True)]
    texts = loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [
        Reply(*divmod(row.row, n), text.strip(), len(kept), over)
        for row, text, kept, over in zip(written, texts, tokens, ended, strict=True)
    ]


def end_tokens(loaded: Loaded) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's, and those that the model's generation settings name."""
    named = loaded.model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [named]
    return frozenset({loaded.tokenizer.eos_token_id, *(token for token in more if token is not None)})
