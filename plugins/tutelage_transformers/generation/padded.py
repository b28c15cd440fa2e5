"""Left-padded batches, for any device and any model: prompts sorted by length, rows that have ended leave the batch.

A prompt that is answered several times is read once, and its keys and values are repeated for its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from tutelage.records import Sampling
from tutelage_transformers.generation.choosing import choose
from tutelage_transformers.generation.memory import rows_that_fit
from tutelage_transformers.generation.requests import Request, Written, fill_up
from tutelage_transformers.models.loading import Loaded

_KEEP_SHARE = 0.8
"""Rows are dropped once no more than this share of a batch is still being written: each drop copies the cache."""
_UNWRITTEN = -1


def write(
    loaded: Loaded,
    requests: Sequence[Request],
    sampling: Sampling,
    ends: frozenset[int],
    draw: Callable[[int], Any],
    batch_size: int | None = None,
) -> Iterator[list[Written]]:
    """Answer the requests, batch by batch.

    Each prompt has as many requests as any other. ``draw`` gives the random numbers of a row (new tokens,). At most
    ``batch_size`` rows run at once (None: as many as fit into memory), though always all of a prompt.
    """
    prompts = [list(group) for _, group in groupby(requests, key=lambda request: id(request.prompt))]
    prompts.sort(key=lambda group: (-len(group[0].prompt), group[0].row))
    while prompts:
        longest = len(prompts[0][0].prompt) + sampling.max_new_tokens
        at_once = max(1, (batch_size or rows_that_fit(loaded.model, longest)) // len(prompts[0]))
        batch, prompts = prompts[:at_once], prompts[at_once:]
        asked = [request for group in batch for request in group]
        random = fill_up([draw(request.row) for request in asked])
        rows = _write(loaded, batch, asked, sampling, ends, random)
        yield [Written(request.row, tokens) for request, tokens in zip(asked, rows, strict=True)]


def _write(
    loaded: Loaded,
    prompts: Sequence[Sequence[Request]],
    asked: Sequence[Request],
    sampling: Sampling,
    ends: frozenset[int],
    random: Any,
) -> list[list[int]]:
    """Token ids of every request's reply."""
    import torch

    with torch.inference_mode():
        batch = _Batch.read(loaded, [list(group[0].prompt) for group in prompts], len(prompts[0]))
        device = batch.logits.device
        last = torch.tensor(sorted(ends), device=device)
        random = random.to(device)
        limits = torch.tensor([request.limit for request in asked], device=device)
        written = torch.full(random.shape, _UNWRITTEN, device=device)
        for step in range(random.shape[1]):
            tokens = choose(batch.logits, sampling, random[batch.rows, step])
            written[batch.rows[batch.running], step] = tokens[batch.running]
            batch.running &= ~torch.isin(tokens, last) & (step + 1 < limits[batch.rows])
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
