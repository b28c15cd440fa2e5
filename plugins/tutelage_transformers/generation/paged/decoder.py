"""The running sequences, on the device: prompts are prefilled, and each decoding step appends one token per sequence.

A decoding step runs the same kernels on the same tensors however long the sequences are. So on a GPU it is captured
once, as a CUDA graph, for each of a few batch sizes, and replayed. ``capturing`` names the exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from attrs import define, field, frozen

from tutelage.errors import InputError
from tutelage.records import Sampling
from tutelage_transformers.devices.selection import is_nvidia
from tutelage_transformers.generation.paged.attention import BLOCK_SIZE, Cache, DecodePass, PrefillPass
from tutelage_transformers.generation.paged.blocks import NULL_BLOCK, Allocation
from tutelage_transformers.generation.paged.capturing import can_be_captured
from tutelage_transformers.generation.paged.state import State
from tutelage_transformers.generation.requests import stack_padded
from tutelage_transformers.generation.sampling import mark_not_finite, mask_beyond, probabilities_of, sample_tokens

T = TypeVar("T")

_PREFILL_TOKENS = 16384
"""Maximum number of prompt tokens that are computed in one pass."""


@frozen(eq=False)
class ActiveSequence:
    """A sequence that is to run."""

    prompt: Sequence[int]
    """Token ids."""
    allocation: Allocation
    max_new_tokens: int
    uniforms: Any
    """(new tokens,) float64: its random numbers."""


@define(eq=False)
class Decoder:
    """A model, the blocks of its cache, and the state of all sequences that may run at once."""

    model: Any
    cache: Cache
    state: State
    stop_tokens: Any
    """Token ids that end a completion."""
    temperature: Any
    """(1,) float32, on the device, so that one captured graph serves every setting."""
    top_p: Any
    """As ``temperature``."""
    min_p: Any
    """As ``temperature``."""
    captured: bool = False
    """Whether steps are captured as CUDA graphs."""
    sampling: Sampling = Sampling()
    """How tokens are sampled."""
    prefill_tokens: int = _PREFILL_TOKENS
    _graphs: dict[tuple[int, bool, int | None], Any] = field(init=False, factory=dict)
    _memory: Any = field(init=False, default=None)

    @classmethod
    def empty(
        cls, model: Any, stop_tokens: frozenset[int], blocks: int, slots: int, width: int, blocks_per_sequence: int
    ) -> Decoder:
        """Return a decoder without running sequences. Raises ``torch.OutOfMemoryError`` if the blocks do not fit."""
        import torch

        device = model.device
        return cls(
            model,
            Cache.empty(model, blocks),
            State.empty(slots, width, blocks_per_sequence, device),
            torch.tensor(sorted(stop_tokens), device=device),
            temperature=torch.ones(1, device=device),
            top_p=torch.ones(1, device=device),
            min_p=torch.zeros(1, device=device),
            captured=is_nvidia(device) and can_be_captured(model, torch.cuda.get_device_capability(device)),
        )

    @property
    def greedy(self) -> bool:
        """Whether each token is the most probable one."""
        return self.sampling.temperature == 0

    def set_sampling(self, sampling: Sampling) -> None:
        """Set how tokens are sampled from now on."""
        self.sampling = sampling
        self.temperature.fill_(sampling.temperature or 1.0)
        self.top_p.fill_(sampling.top_p)
        self.min_p.fill_(sampling.min_p)

    def prefill(self, slots: Sequence[int], sequences: Sequence[ActiveSequence]) -> None:
        """Compute the sequences' prompts, in these slots, and sample the first token of each.

        Takes as many passes as the memory requires. A sequence that shares blocks must come after the one that computes
        them. Raises ``InputError`` if a single prompt does not fit.
        """
        for _ in self._in_passes(sequences, lambda start, end: self._prefill(slots[start:end], sequences[start:end])):
            pass

    def weigh(self, sequences: Sequence[ActiveSequence], tokens: Sequence[int]) -> list[tuple[float, ...] | None]:
        """Compute the sequences' prompts, in no slots, and return the probabilities of ``tokens`` after each of them.

        As ``prefill`` otherwise; an entry is None if the logits are not finite.
        """
        passes = self._in_passes(
            sequences, lambda start, end: probabilities_of(self._logits(sequences[start:end])[0], tokens)
        )
        return [found for part in passes for found in part]

    def _in_passes(self, sequences: Sequence[ActiveSequence], compute: Callable[[int, int], T]) -> Iterator[T]:
        """Yield what ``compute`` returns for the sequences from its first to before its second argument, in order."""
        import torch

        start = 0
        while start < len(sequences):
            end = _end_of_pass(sequences, start, self.prefill_tokens)
            try:
                with torch.inference_mode():
                    found = compute(start, end)
            except torch.OutOfMemoryError as error:
                if end - start == 1:
                    raise InputError(
                        "plugin transformers: the GPU is too small to compute a prompt of "
                        f"{len(sequences[start].prompt)} tokens beside the model; use a smaller model or shorter "
                        "prompts"
                    ) from error
                torch.cuda.empty_cache()
                self.prefill_tokens = max(1, min(self.prefill_tokens, _uncached_tokens(sequences[start:end])) // 2)
            else:
                yield found
                start = end

    def _logits(self, sequences: Sequence[ActiveSequence]) -> tuple[Any, Sequence[int]]:
        """Compute the prompts; returns the logits (sequences, vocabulary) of the next tokens, and the lengths."""
        import torch

        device = self.model.device
        ids, positions, prefill = _prefill_inputs(sequences, self.cache, device)
        logits = self.model(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=torch.tensor(prefill.new, device=device).cumsum(0) - 1,
            paged=prefill,
        ).logits[0]
        return logits, prefill.whole

    def _prefill(self, slots: Sequence[int], sequences: Sequence[ActiveSequence]) -> None:
        import torch

        device, state = self.model.device, self.state
        logits, lengths = self._logits(sequences)
        uniforms = stack_padded([sequence.uniforms for sequence in sequences]).to(device)
        limit = torch.tensor([sequence.max_new_tokens for sequence in sequences], device=device)
        tokens = self._sample(logits, uniforms[:, 0])
        at = torch.tensor(slots, device=device)
        state.block_table[at] = _block_table(sequences, state.block_table.shape[1]).to(device)
        state.uniforms[at, : uniforms.shape[1]] = uniforms
        state.generated[at, 0] = tokens
        state.length[at] = torch.tensor(lengths, device=device)
        state.limit[at] = limit
        state.count[at] = 1
        state.last_token[at] = tokens.clamp(min=0)
        state.running[at] = ~self._is_stop(tokens) & (limit > 1)

    def prepare(self, size: int) -> None:
        """Capture the step of ``size`` sequences on a GPU, or do it once if it is not captured; no sequence may run.

        Raises ``torch.OutOfMemoryError`` if the step does not fit beside the blocks.
        """
        if self.captured:
            self._graph(size)
        elif self.model.device.type == "cuda":
            self._step(size)

    def decode(self, size: int) -> None:
        """Append a token to each running sequence of the first ``size`` slots."""
        if self.captured:
            self._graph(size).replay()
        else:
            self._step(size)

    def _step(self, size: int) -> None:
        import torch

        with torch.inference_mode():
            self._decode(self.state.first(size))

    def _decode(self, state: State) -> None:
        import torch

        block = state.block_table.gather(1, (state.length // BLOCK_SIZE)[:, None]).squeeze(1)
        decode = DecodePass(
            self.cache,
            block=torch.where(state.running, block, NULL_BLOCK).long(),
            offset=state.length % BLOCK_SIZE,
            block_table=state.block_table,
            lengths=torch.where(state.running, state.length + 1, 0),
        )
        logits = self.model(
            input_ids=state.last_token[None], position_ids=state.length[None], use_cache=False, paged=decode
        ).logits[0]
        self._append_tokens(state, logits)

    def _append_tokens(self, state: State, logits: Any) -> None:
        import torch

        column = state.count.clamp(max=state.width - 1)[:, None]
        tokens = self._sample(logits, state.uniforms.gather(1, column).squeeze(1))
        state.last_token.copy_(torch.where(state.running, tokens.clamp(min=0), state.last_token))
        before = state.generated.gather(1, column)
        state.generated.scatter_(1, column, torch.where(state.running[:, None], tokens[:, None], before))
        state.count.add_(state.running)
        state.length.add_(state.running)
        state.running.logical_and_(~self._is_stop(tokens) & (state.count < state.limit))

    def _sample(self, logits: Any, uniform: Any) -> Any:
        """Return the next token of each sequence, or ``NOT_FINITE``."""
        if logits.is_cuda and not self.greedy:
            from tutelage_transformers.generation.paged.kernels import sample_from_nucleus

            if self.sampling.top_k is not None:
                logits = mask_beyond(logits, self.sampling.top_k)
            return sample_from_nucleus(logits, self.temperature, self.top_p, self.min_p, uniform)
        return mark_not_finite(sample_tokens(logits, self.sampling, uniform), logits)

    def _is_stop(self, tokens: Any) -> Any:
        return (tokens[:, None] == self.stop_tokens).any(1) | (tokens < 0)

    def _graph(self, size: int) -> Any:
        """Return the captured step.

        It is done once before it is captured, because the libraries initialise themselves in the first step. This
        changes no sequence, because none runs meanwhile.
        """
        import torch

        key = (size, self.greedy, self.sampling.top_k)
        if key not in self._graphs:
            state = self.state.first(size)
            running = self.state.running.clone()
            self.state.running.zero_()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode():
                with torch.cuda.stream(stream):
                    self._decode(state)
                torch.cuda.current_stream().wait_stream(stream)
                with torch.cuda.graph(graph, pool=self._memory):
                    self._decode(state)
            self._memory = graph.pool()
            self._graphs[key] = graph
            self.state.running.copy_(running)
        return self._graphs[key]


def _prefill_inputs(sequences: Sequence[ActiveSequence], cache: Cache, device: Any) -> tuple[Any, Any, PrefillPass]:
    """Return ids (tokens,) and positions (tokens,) of the tokens to compute, and where their keys and values are."""
    import numpy as np
    import torch

    cached = [sequence.allocation.cached for sequence in sequences]
    whole = [len(sequence.prompt) for sequence in sequences]
    new = [length - known for length, known in zip(whole, cached, strict=True)]
    positions = [np.arange(length) for length in whole]
    blocks = [
        np.asarray(sequence.allocation.blocks)[at // BLOCK_SIZE]
        for sequence, at in zip(sequences, positions, strict=True)
    ]

    def join(parts: Sequence[Any], dtype: Any = torch.int64) -> Any:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype).to(device)

    def join_uncached(parts: Sequence[Any]) -> Any:
        return join([part[known:] for part, known in zip(parts, cached, strict=True)])

    position = join_uncached(positions)
    prefill = PrefillPass(
        cache,
        block=join_uncached(blocks),
        offset=position % BLOCK_SIZE,
        key_block=join(blocks),
        key_offset=join(positions) % BLOCK_SIZE,
        new=new,
        whole=whole,
        new_starts=join([[0], np.cumsum(new)], torch.int32),
        whole_starts=join([[0], np.cumsum(whole)], torch.int32),
    )
    return join_uncached([sequence.prompt for sequence in sequences]), position, prefill


def _block_table(sequences: Sequence[ActiveSequence], blocks_per_sequence: int) -> Any:
    """Return (sequences, blocks_per_sequence) int32: each sequence's blocks, padded with the null block."""
    import torch

    blocks = [sequence.allocation.blocks for sequence in sequences]
    padded = [[*own, *[NULL_BLOCK] * (blocks_per_sequence - len(own))] for own in blocks]
    return torch.tensor(padded, dtype=torch.int32)


def _end_of_pass(sequences: Sequence[ActiveSequence], start: int, tokens: int) -> int:
    """Return the end of a pass that begins with sequence ``start``: at most ``tokens`` tokens, or one sequence."""
    end = start + 1
    left = tokens - _uncached_tokens(sequences[start:end])
    while end < len(sequences) and (left := left - _uncached_tokens(sequences[end : end + 1])) >= 0:
        end += 1
    return end


def _uncached_tokens(sequences: Sequence[ActiveSequence]) -> int:
    return sum(len(sequence.prompt) - sequence.allocation.cached for sequence in sequences)
