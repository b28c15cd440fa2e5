"""Generation behind one interface: prompts in, replies out, for candidates, demonstrations and judging alike.

On an NVIDIA GPU ``paged`` does the work and keeps a batch full. Elsewhere prompts are sorted by length and run in
left-padded batches: a prompt that is answered n times is read once, and its keys and values are repeated for the n
rows; rows that have ended leave the batch. Greedy replies are, token for token, those of transformers' ``generate``;
the loop is our own because ``generate`` neither shares a prompt among samples nor lets go of finished rows, and draws
its random numbers from one stream for the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from tutelage.records import Sampling
from tutelage_phi2.generation import paged
from tutelage_phi2.generation.choosing import choose, row_uniforms, uniforms
from tutelage_phi2.generation.memory import rows_that_fit
from tutelage_phi2.models.chat import encode
from tutelage_phi2.models.loading import Loaded

_KEEP_SHARE = 0.8
"""Rows are dropped once no more than this share of a batch is still being written: each drop copies the cache."""
_UNWRITTEN = -1


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
    and sampling give the same replies. Raises ``InputError`` where a model cannot be paged that is asked to, and where
    the GPU is too small for one row. A reply ends at the latest where the model's context does; a
    prompt that fills the context gives replies with ``fits`` False.
    """
    ids = encode(loaded.tokenizer, prompts)
    fitting = [index for index in range(len(prompts)) if 0 < len(ids[index]) < context_length(loaded.model)]
    if unfit := sorted(set(range(len(prompts))) - set(fitting)):
        yield [Reply(index, sample, "", 0, False, fits=False) for index in unfit for sample in range(n)]
    if engine == "paged":
        paged.check(loaded)
    if engine == "paged" or (engine == "auto" and paged.is_for(loaded)):
        yield from _write_paged(loaded, prompts, ids, fitting, n, sampling, batch_size)
    else:
        yield from _write_padded(loaded, prompts, ids, fitting, n, sampling, batch_size)


def _write_paged(
    loaded: Loaded,
    prompts: Sequence[str],
    ids: list[list[int]],
    fitting: list[int],
    n: int,
    sampling: Sampling,
    batch_size: int | None,
) -> Iterator[list[Reply]]:
    room = {index: min(sampling.max_new_tokens, context_length(loaded.model) - len(ids[index])) for index in fitting}
    requests = [paged.Request(index * n + sample, ids[index], room[index]) for index in fitting for sample in range(n)]

    def draw(row: int) -> Any:
        return row_uniforms(sampling.seed, prompts[row // n], row % n, room[row // n])

    for replies in paged.write(loaded, requests, sampling, end_tokens(loaded), draw, batch_size):
        rows = [divmod(reply.row, n) for reply in replies]
        yield _replies(loaded, rows, [reply.tokens for reply in replies])


def _write_padded(
    loaded: Loaded,
    prompts: Sequence[str],
    ids: list[list[int]],
    fitting: list[int],
    n: int,
    sampling: Sampling,
    batch_size: int | None,
) -> Iterator[list[Reply]]:
    fitting = sorted(fitting, key=lambda index: (-len(ids[index]), index))
    while fitting:
        longest = len(ids[fitting[0]]) + sampling.max_new_tokens
        at_once = max(1, (batch_size or rows_that_fit(loaded.model, longest)) // n)
        batch, fitting = fitting[:at_once], fitting[at_once:]
        random = uniforms(sampling.seed, [prompts[index] for index in batch], n, sampling.max_new_tokens)
        rows = _write(loaded, [ids[index] for index in batch], n, sampling, random)
        yield _replies(loaded, [(index, sample) for index in batch for sample in range(n)], rows)


def context_length(model: Any) -> int:
    """Positions that the model knows, or a number that no prompt reaches where its configuration does not say."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def _replies(loaded: Loaded, asked: Sequence[tuple[int, int]], rows: list[list[int]]) -> list[Reply]:
    """Replies from token ids: ``asked`` says which prompt and sample each row answers."""
    ends = end_tokens(loaded)
    ended = [bool(row) and row[-1] in ends for row in rows]
    written = [row[:-1] if over else row for row, over in zip(rows, ended, strict=True)]
    texts = loaded.tokenizer.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [
        Reply(prompt, sample, texts[row].strip(), len(written[row]), ended[row])
        for row, (prompt, sample) in enumerate(asked)
    ]


def end_tokens(loaded: Loaded) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's, and those that the model's generation settings name."""
    named = loaded.model.generation_config.eos_token_id
    more = named if isinstance(named, list) else [named]
    return frozenset({loaded.tokenizer.eos_token_id, *(token for token in more if token is not None)})


def _write(loaded: Loaded, prompts: list[list[int]], n: int, sampling: Sampling, random: Any) -> list[list[int]]:
    """Generate ``len(prompts) * n`` rows of token ids, each up to and with its end token, or to the limit."""
    import torch

    with torch.inference_mode():
        batch = _Batch.read(loaded, prompts, n)
        ends = torch.tensor(sorted(end_tokens(loaded)), device=batch.logits.device)
        random = random.to(batch.logits.device)
        room = context_length(loaded.model) - torch.tensor([len(ids) for ids in prompts]).repeat_interleave(n)
        limits = room.clamp(max=sampling.max_new_tokens).to(batch.logits.device)
        shape = (len(prompts) * n, sampling.max_new_tokens)
        written = torch.full(shape, _UNWRITTEN, device=batch.logits.device)
        for step in range(sampling.max_new_tokens):
            tokens = choose(batch.logits, sampling, random[batch.rows, step])
            written[batch.rows[batch.running], step] = tokens[batch.running]
            batch.running &= ~torch.isin(tokens, ends) & (step + 1 < limits[batch.rows])
            left = int(batch.running.sum())
            if left == 0:
                break
            if left <= _KEEP_SHARE * len(batch.rows):
                tokens = batch.drop_ended(tokens)
            batch.step(tokens)
        return [[token for token in row if token != _UNWRITTEN] for row in written.tolist()]


class _Batch:
    """Rows that are written together: the cache, what is visible of it, and the logits of the next token."""

    def __init__(self, model: Any, cache: Any, mask: Any, logits: Any) -> None:
        import torch

        self.model = model
        self.cache = cache
        self.mask = mask
        """(rows, length so far): 0 where a row is padded."""
        self.logits = logits
        """(rows, vocabulary)"""
        self.rows = torch.arange(len(logits), device=logits.device)
        """Which row of the result each one writes."""
        self.running = torch.ones_like(self.rows, dtype=torch.bool)

    @classmethod
    def read(cls, loaded: Loaded, prompts: list[list[int]], n: int) -> _Batch:
        """Read the prompts, padded on the left, once each, and make n rows of every one."""
        import torch
        from transformers.cache_utils import DynamicCache

        device = loaded.model.device
        longest = max(map(len, prompts))
        pad = loaded.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
        cache = DynamicCache(config=loaded.model.config)
        output = loaded.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
        if n > 1:
            cache.batch_repeat_interleave(n)
            mask, logits = mask.repeat_interleave(n, 0), logits.repeat_interleave(n, 0)
        return cls(loaded.model, cache, mask, logits)

    def drop_ended(self, tokens: Any) -> Any:
        """Let the rows go that have ended; returns the tokens of the others."""
        keep = self.running.nonzero().squeeze(-1)
        self.cache.batch_select_indices(keep)
        self.mask, self.rows, self.running = self.mask[keep], self.rows[keep], self.running[keep]
        return tokens[keep]

    def step(self, tokens: Any) -> None:
        """Append one token to each row and compute the logits of the next."""
        import torch

        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.mask.sum(-1, keepdim=True) - 1,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = output.logits[:, -1]
