"""Left-padded batches, for any device and any model: prompts sorted by length, finished sequences leave the batch.

A prompt that is completed several times is prefilled once. Its keys and values are then repeated for its sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from tutelage.records import Sampling
from tutelage_transformers.generation.memory import sequences_that_fit
from tutelage_transformers.generation.requests import (
    GeneratedTokens,
    GenerationRequest,
    OnTokens,
    WeighedTokens,
    stack_padded,
)
from tutelage_transformers.generation.sampling import (
    device_of_sampling,
    mark_not_finite,
    probabilities_of,
    sample_tokens,
)
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.models.support import ATTENTION_CACHE, cache_argument, padding_is_exact

_KEEP_SHARE = 0.8
"""Finished sequences are dropped once at most this share of the batch still runs: each drop copies the cache."""
_NOT_GENERATED = -1


def generate(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    stop_tokens: frozenset[int],
    uniforms_of: Callable[[int], Any],
    batch_size: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Iterator[list[GeneratedTokens]]:
    """Generate the requested sequences, batch by batch.

    Each prompt has as many requests as any other. ``uniforms_of`` returns the random numbers (new tokens,) of a
    sequence. At most ``batch_size`` sequences run at once (None: as many as fit into memory), but always all of a
    prompt. ``on_tokens`` is called after each step if there is one sequence.
    """
    prompts = [list(group) for _, group in groupby(requests, key=lambda request: id(request.prompt))]
    prompts.sort(key=lambda group: (-len(group[0].prompt), group[0].index))
    while prompts:
        lengths = [len(group[0].prompt) for group in prompts]
        at_once = _at_once(loaded, lengths, len(prompts[0]), sampling.max_new_tokens, batch_size)
        batch, prompts = prompts[:at_once], prompts[at_once:]
        flat = [request for group in batch for request in group]
        uniforms = stack_padded([uniforms_of(request.index) for request in flat])
        watch = on_tokens if len(requests) == 1 else None
        generated = _generate(loaded, batch, flat, sampling, stop_tokens, uniforms, watch)
        yield [GeneratedTokens(request.index, tokens) for request, tokens in zip(flat, generated, strict=True)]


def weigh(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], tokens: Sequence[int], batch_size: int | None = None
) -> Iterator[list[WeighedTokens]]:
    """Compute the probabilities of ``tokens`` after each prompt, batch by batch; nothing is decoded."""
    import torch

    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    while order:
        at_once = _at_once(loaded, [len(prompts[index]) for index in order], 1, 0, batch_size)
        batch, order = order[:at_once], order[at_once:]
        with torch.inference_mode():
            logits = _Batch.prefill(loaded, [list(prompts[index]) for index in batch], 1).logits
            found = probabilities_of(logits, tokens)
        yield [WeighedTokens(index, one) for index, one in zip(batch, found, strict=True)]


def _at_once(loaded: LoadedModel, lengths: Sequence[int], n: int, new_tokens: int, batch_size: int | None) -> int:
    """Return how many of the prompts run at once, from the first, which is the longest; each is completed n times."""
    at_once = max(1, (batch_size or sequences_that_fit(loaded.model, lengths[0], new_tokens)) // n)
    return at_once if padding_is_exact(loaded.model.config) else lengths[:at_once].count(lengths[0])


def _generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[GenerationRequest]],
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    stop_tokens: frozenset[int],
    uniforms: Any,
    on_tokens: OnTokens | None,
) -> list[list[int]]:
    """Return the new token ids of every request."""
    import torch

    with torch.inference_mode():
        batch = _Batch.prefill(loaded, [list(group[0].prompt) for group in prompts], len(prompts[0]))
        device = batch.logits.device
        stops = torch.tensor(sorted(stop_tokens), device=device)
        home = device_of_sampling(device)
        uniforms = uniforms.to(home)
        limits = torch.tensor([request.max_new_tokens for request in requests], device=device)
        generated = torch.full(uniforms.shape, _NOT_GENERATED, device=device)
        for step in range(uniforms.shape[1]):
            drawn = uniforms[batch.indices.to(home), step]
            tokens = sample_tokens(batch.logits.to(home), sampling, drawn).to(device)
            tokens = mark_not_finite(tokens, batch.logits)
            generated[batch.indices[batch.running], step] = tokens[batch.running]
            batch.running &= ~torch.isin(tokens, stops) & (tokens >= 0) & (step + 1 < limits[batch.indices])
            if on_tokens:
                on_tokens(generated[0, : step + 1].tolist())
            left = int(batch.running.sum())
            if left == 0:
                break
            if left <= _KEEP_SHARE * len(batch.indices):
                tokens = batch.drop_finished(tokens)
            batch.decode(tokens.clamp(min=0))
        return [[token for token in row if token != _NOT_GENERATED] for row in generated.tolist()]


class _Batch:
    """Sequences that are generated together: their cache and attention mask, and the logits of the next tokens."""

    def __init__(self, model: Any, cache: Any, cache_argument: str, mask: Any, logits: Any) -> None:
        import torch

        self.model = model
        self.cache = cache
        self.cache_argument = cache_argument
        """The argument of the model's ``forward`` for the cache."""
        self.mask = mask
        """(sequences, length so far): 0 for padding."""
        self.logits = logits
        """(sequences, vocabulary)."""
        self.indices = torch.arange(len(logits), device=logits.device)
        """(sequences,): index among the requests of the batch; finished sequences may have been dropped."""
        self.running = torch.ones_like(self.indices, dtype=torch.bool)

    @classmethod
    def prefill(cls, loaded: LoadedModel, prompts: list[list[int]], n: int) -> _Batch:
        """Compute the prompts once each, padded on the left, and make n sequences of every one."""
        import torch
        from transformers.cache_utils import DynamicCache

        device = loaded.model.device
        longest = max(map(len, prompts))
        pad = loaded.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=device)
        cache = DynamicCache(config=loaded.model.config.get_text_config())
        cached = cache_argument(_class(loaded.model))
        assert cached is not None, "models without one are refused when they are loaded"
        output = loaded.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **{cached: cache},
        )
        logits = output.logits[:, -1]
        if n > 1:
            cache.reorder_cache(torch.arange(len(ids), device=device).repeat_interleave(n))
            mask, logits = mask.repeat_interleave(n, 0), logits.repeat_interleave(n, 0)
        return cls(loaded.model, cache, cached, mask, logits)

    def drop_finished(self, tokens: Any) -> Any:
        """Remove the finished sequences; returns the tokens of the others."""
        keep = self.running.nonzero().squeeze(-1)
        self.cache.reorder_cache(keep)  # unlike batch_select_indices, it knows the states of linear attention
        self.mask, self.indices, self.running = self.mask[keep], self.indices[keep], self.running[keep]
        return tokens[keep]

    def decode(self, tokens: Any) -> None:
        """Append one token (sequences,) to each sequence and compute the logits of the next."""
        import torch

        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask if self.cache_argument == ATTENTION_CACHE else None,
            position_ids=self.mask.sum(-1, keepdim=True) - 1,
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_argument: self.cache},
        )
        self.logits = output.logits[:, -1]


def _class(model: Any) -> type[Any]:
    """The class of the model below an adapter."""
    return type(model.get_base_model() if hasattr(model, "peft_config") else model)
