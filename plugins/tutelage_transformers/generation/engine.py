"""Generation behind one interface: prompts in, completions out, for candidates, demonstrations and judgements alike.

On an NVIDIA GPU the engine is ``paged``, which keeps its batch full; elsewhere it is ``padded``, batch after batch.
Greedy completions equal, token for token, those of transformers' ``generate``. The engines are our own because
``generate`` neither shares a prompt among samples nor removes finished sequences from the batch, and because it draws
the random numbers of the whole batch from one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from tutelage.preferences.thinking import is_mark, opened_block
from tutelage.records import Sampling
from tutelage_transformers.generation import padded, paged
from tutelage_transformers.generation.requests import GeneratedTokens, GenerationRequest
from tutelage_transformers.generation.sampling import NOT_FINITE, uniforms
from tutelage_transformers.models.chat import encode
from tutelage_transformers.models.loading import LoadedModel, context_length

OnText = Callable[[str], None]
"""Is called with the text so far of a completion."""

_INCOMPLETE = "\ufffd"
"""The decoded text of a character whose bytes are not complete."""


@frozen
class Completion:
    """One completion of one prompt."""

    prompt: int
    """Index of the prompt, from 0."""
    sample: int
    """Which of the prompt's n completions, from 0."""
    text: str
    """Stripped, without stop and pad tokens. If the prompt ends with the opening mark of a thinking block, the text
    starts with it."""
    tokens: int
    """Number of tokens, without the stop token."""
    ended: bool
    """False if the limit of new tokens was reached before a stop token."""
    fits: bool = True
    """False if the prompt leaves no room in the model's context: nothing was generated."""
    is_finite: bool = True
    """False if the model gave logits that are NaN or infinite: the text is not an answer."""


def generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    n: int,
    sampling: Sampling,
    batch_size: int | None = None,
    engine: str = "auto",
    seeds: Sequence[int] | None = None,
    on_text: OnText | None = None,
) -> Iterator[list[Completion]]:
    """Complete each of the templated prompts n times; yields completions in batches, in no fixed order.

    At most ``batch_size`` sequences run at once (None: as many as fit into memory); a padded batch always has all n of
    a prompt. ``engine`` is ``paged``, ``padded``, or ``auto``: paged if it supports the model. The same model, prompts
    and sampling give the same completions. ``seeds`` has a seed for each prompt, in place of that of the sampling. A
    completion ends at the end of the model's context at the latest; a prompt that fills the context gives completions
    with ``fits`` False. ``on_text`` is called with the text so far, if there is one prompt and ``n`` is 1. Raises
    ``InputError`` if ``paged`` is asked for and does not support the model, and if the GPU is too small for one
    sequence.
    """
    ids = encode(loaded.tokenizer, prompts)
    context = context_length(loaded.model.config)
    room = [context - len(prompt) if prompt else 0 for prompt in ids]
    if unfit := [index for index in range(len(prompts)) if room[index] < 1]:
        yield [Completion(index, sample, "", 0, False, fits=False) for index in unfit for sample in range(n)]
    requests = [
        GenerationRequest(index * n + sample, ids[index], min(sampling.max_new_tokens, room[index]))
        for index in range(len(prompts))
        if room[index] > 0
        for sample in range(n)
    ]

    def uniforms_of(sequence: int) -> Any:
        prompt, sample = divmod(sequence, n)
        seed = sampling.seed if seeds is None else seeds[prompt]
        return uniforms(seed, prompts[prompt], sample, min(sampling.max_new_tokens, room[prompt]))

    def show(tokens: list[int]) -> None:
        [so_far] = _completions(1, [GeneratedTokens(0, tokens)], stops, decode)
        if on_text:
            on_text(_opened(so_far, prompts).text.rstrip(_INCOMPLETE).rstrip())

    run = paged.generate if is_paged(loaded, engine) else padded.generate
    stops, decode = stop_tokens(loaded), text_decoder(loaded.tokenizer)
    for generated in run(loaded, requests, sampling, stops, uniforms_of, batch_size, show if on_text else None):
        yield [_opened(completion, prompts) for completion in _completions(n, generated, stops, decode)]


def is_paged(loaded: LoadedModel, engine: str) -> bool:
    """Return whether ``settings.engine`` is the paged engine for this model. Raises ``InputError`` as ``generate``."""
    if engine == "auto":
        return paged.is_preferred(loaded)
    if engine == "paged":
        paged.check(loaded)
    return engine == "paged"


def _completions(
    n: int,
    generated: Sequence[GeneratedTokens],
    stops: frozenset[int],
    decode: Callable[[Sequence[list[int]]], list[str]],
) -> list[Completion]:
    finite = [one.tokens[-1:] != [NOT_FINITE] for one in generated]
    ended = [bool(one.tokens) and one.tokens[-1] in stops for one in generated]
    tokens = [
        one.tokens[:-1] if stopped or not is_finite else one.tokens
        for one, stopped, is_finite in zip(generated, ended, finite, strict=True)
    ]
    texts = decode(tokens)
    return [
        Completion(*divmod(one.index, n), text.strip(), len(kept), stopped, is_finite=is_finite)
        for one, text, kept, stopped, is_finite in zip(generated, texts, tokens, ended, finite, strict=True)
    ]


def text_decoder(tokenizer: Any) -> Callable[[Sequence[list[int]]], list[str]]:
    """Return the function that gives the texts of completions: without special tokens, but with the marks of thinking
    blocks, which may be special tokens.

    The special tokens are listed once. To list the 6,249 of Gemma takes 29 ms, longer than several decoding steps.
    """
    special = {token: added.content for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    hidden = {token for token, content in special.items() if not is_mark(content)}
    has_marks = len(hidden) < len(special)

    def decode(rows: Sequence[list[int]]) -> list[str]:
        kept = [[token for token in row if token not in hidden] for row in rows] if has_marks else rows
        texts: list[str] = tokenizer.batch_decode(
            kept, skip_special_tokens=not has_marks, clean_up_tokenization_spaces=False
        )
        return texts

    return decode


def _opened(completion: Completion, prompts: Sequence[str]) -> Completion:
    """A completion whose text starts with the opening mark of a thinking block that its prompt ends with."""
    mark = opened_block(prompts[completion.prompt])
    return evolve(completion, text=f"{mark}\n{completion.text}") if mark else completion


def stop_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Return every token id that ends a completion: the tokenizer's, and those of the model's generation settings."""
    named = loaded.model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [named]
    return frozenset({loaded.tokenizer.eos_token_id, *(token for token in more if token is not None)})
