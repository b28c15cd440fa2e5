"""Tests of the paged engine alone. ``test_engine.py`` tests that both engines give the completions of ``generate``."""

from __future__ import annotations

import random
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tutelage.errors import InputError
from tutelage.records import Model, Sampling
from tutelage_transformers.generation import memory
from tutelage_transformers.generation.engine import Completion, generate
from tutelage_transformers.generation.paged import attention, decoder, engine
from tutelage_transformers.generation.paged.blocks import BlockPool
from tutelage_transformers.generation.paged.state import State
from tutelage_transformers.generation.sampling import uniforms
from tutelage_transformers.models.chat import user_prompt
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.settings import TransformersSettings

WORDS = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=3)


@pytest.fixture
def loaded(base: Path) -> LoadedModel:
    return read(Model("transformers", str(base)), TransformersSettings(device="cpu"))


def prompts_of(loaded: LoadedModel, count: int) -> list[str]:
    choice = random.Random(0)
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(1, 60))) for _ in range(count)]
    return [user_prompt(loaded.tokenizer, text) for text in texts]


def complete(loaded: LoadedModel, prompts: list[str], n: int, which: str, batch: int | None = None) -> list[Completion]:
    """All completions, by prompt and sample."""
    batches = generate(loaded, prompts, n, SAMPLED, batch, which)
    return sorted(chain(*batches), key=lambda completion: (completion.prompt, completion.sample))


def test_sequences_of_one_prompt_share_its_full_blocks_but_not_its_last_token() -> None:
    pool = BlockPool(blocks=20, block_size=4)
    prompt = list(range(9))
    first, second = pool.allocate(prompt, 14), pool.allocate(prompt, 14)
    assert first is not None
    assert second is not None
    assert (first.cached, second.cached) == (0, 8)
    assert first.blocks[:2] == second.blocks[:2]
    assert not set(first.blocks[2:]) & set(second.blocks[2:])


def test_a_prompt_that_fills_its_blocks_computes_its_last_block_again() -> None:
    pool = BlockPool(blocks=20, block_size=4)
    pool.allocate(list(range(8)), 12)
    again = pool.allocate(list(range(8)), 12)
    assert again is not None
    assert again.cached == 4


def test_sequences_share_the_blocks_of_their_common_prefix() -> None:
    pool = BlockPool(blocks=40, block_size=4)
    rubric = list(range(100, 110))
    first, second = pool.allocate([*rubric, 1, 2, 3, 4, 5], 20), pool.allocate([*rubric, 6, 7, 8, 9, 10], 20)
    assert first is not None
    assert second is not None
    assert second.cached == 8
    assert set(first.blocks) & set(second.blocks) == set(first.blocks[:2])


def test_the_same_tokens_after_another_prefix_are_another_block() -> None:
    pool = BlockPool(blocks=20, block_size=2)
    pool.allocate([1, 2, 7, 8, 0], 6)
    other = pool.allocate([3, 4, 7, 8, 0], 6)
    assert other is not None
    assert other.cached == 0


def test_blocks_are_free_again_when_the_last_sequence_that_shares_them_ends() -> None:
    pool = BlockPool(blocks=11, block_size=4)
    first, second = pool.allocate(list(range(9)), 12), pool.allocate(list(range(9)), 12)
    assert first is not None
    assert second is not None
    assert pool.free == 10 - 3 - 1
    pool.release(first)
    assert pool.free == 10 - 3
    pool.release(second)
    assert pool.free == 10
    later = pool.allocate(list(range(9)), 12)
    assert later is not None
    assert later.cached == 0


def test_a_sequence_that_finds_too_few_free_blocks_takes_none() -> None:
    pool = BlockPool(blocks=4, block_size=4)
    assert pool.allocate(list(range(9)), 16) is None
    assert pool.free == 3
    assert pool.allocate(list(range(9)), 12) is not None


def test_no_two_running_sequences_write_into_one_block() -> None:
    choice, pool = random.Random(0), BlockPool(blocks=200, block_size=4)
    running: list[tuple[Any, int]] = []
    for _ in range(500):
        if running and choice.random() < 0.5:
            pool.release(running.pop(choice.randrange(len(running)))[0])
        prompt = [choice.randint(0, 1) for _ in range(choice.randint(1, 12))]
        if allocation := pool.allocate(prompt, len(prompt) + choice.randint(1, 9)):
            running.append((allocation, len(prompt)))
        own = [block for allocation, length in running for block in allocation.blocks[(length - 1) // 4 :]]
        assert len(own) == len(set(own))
        assert 0 not in own


@pytest.mark.parametrize("blocks", [10, 25, 200])
def test_few_blocks_give_the_same_completions(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    prompts = prompts_of(loaded, 10)
    padded = complete(loaded, prompts, 3, "padded")
    few = blocks * attention.BLOCK_SIZE * memory.bytes_per_token(loaded.model)
    monkeypatch.setattr(engine, "bytes_for_blocks", lambda model: few)
    assert complete(loaded, prompts, 3, "paged") == padded


def test_the_cache_shrinks_if_memory_runs_out(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sizes: list[int] = []

    def empty(model: Any, blocks: int) -> attention.Cache:
        if blocks > 30:
            raise torch.OutOfMemoryError("no room")
        sizes.append(blocks)
        return original(model, blocks)

    original = attention.Cache.empty
    monkeypatch.setattr(attention.Cache, "empty", empty)
    prompts = prompts_of(loaded, 10)
    padded = complete(loaded, prompts, 3, "padded")
    assert complete(loaded, prompts, 3, "paged") == padded
    assert sizes
    assert sizes[0] <= 30


def test_prompts_are_prefilled_in_smaller_passes_if_memory_runs_out(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    passes: list[int] = []
    original = decoder.Decoder._prefill

    def small(self: decoder.Decoder, slots: Any, sequences: Any) -> None:
        if len(sequences) > 2:
            raise torch.OutOfMemoryError("no room")
        passes.append(len(sequences))
        original(self, slots, sequences)

    prompts = prompts_of(loaded, 10)
    padded = complete(loaded, prompts, 3, "padded")
    monkeypatch.setattr(decoder.Decoder, "_prefill", small)
    assert complete(loaded, prompts, 3, "paged") == padded
    assert sum(passes) == 30


def test_a_gpu_that_cannot_hold_one_sequence_is_one_error(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "bytes_for_blocks", lambda model: 0)
    with pytest.raises(InputError, match=r"the GPU is too small: a sequence of \d+ tokens needs"):
        complete(loaded, prompts_of(loaded, 2), 1, "paged")


def test_a_caller_that_stops_early_leaves_the_decoder_ready(loaded: LoadedModel) -> None:
    prompts = prompts_of(loaded, 10)
    padded = complete(loaded, prompts, 3, "padded")
    begun = generate(loaded, prompts, 3, SAMPLED, 8, "paged")
    next(begun)
    assert isinstance(begun, Generator)
    begun.close()
    assert complete(loaded, prompts, 3, "paged", 8) == padded


def test_a_decoder_grows_with_its_requests(loaded: LoadedModel) -> None:
    prompts = prompts_of(loaded, 12)
    padded = complete(loaded, prompts, 3, "padded")
    few = complete(loaded, prompts[:1], 1, "paged")
    assert few == [padded[0]]
    assert complete(loaded, prompts, 3, "paged") == padded


def test_a_model_with_layers_of_another_kind_is_not_paged(loaded: LoadedModel) -> None:
    loaded.model.config.layer_types = ["full_attention", "linear_attention"]
    try:
        with pytest.raises(InputError, match=r"this model cannot be paged: it has layers of the type linear_attention"):
            complete(loaded, prompts_of(loaded, 1), 1, "paged")
    finally:
        del loaded.model.config.layer_types


def test_the_next_steps_are_launched_before_ended_sequences_are_yielded(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    decode, progress = decoder.Decoder.decode, State.progress

    def noted_decode(self: decoder.Decoder, size: int) -> None:
        events.append("launched")
        decode(self, size)

    def noted_progress(self: State) -> Any:
        events.append("waited")
        return progress(self)

    monkeypatch.setattr(decoder.Decoder, "decode", noted_decode)
    monkeypatch.setattr(State, "progress", noted_progress)
    prompts = prompts_of(loaded, 10)
    before = [events[-1] for _ in generate(loaded, prompts, 3, SAMPLED, 8, "paged")]
    assert len(before) > 3
    assert before == ["launched"] * (len(before) - 1) + ["waited"]


def test_sequences_that_ended_before_an_error_are_yielded_before_it_is_raised(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of(loaded, 3)
    whole = complete(loaded, prompts, 1, "paged", 1)
    prefill, calls = decoder.Decoder.prefill, []

    def failing(self: decoder.Decoder, slots: Any, sequences: Any) -> None:
        calls.append(len(sequences))
        if len(calls) == 3:
            raise InputError("the GPU is too small")
        prefill(self, slots, sequences)

    found: list[Completion] = []
    with monkeypatch.context() as patched:
        patched.setattr(decoder.Decoder, "prefill", failing)
        with pytest.raises(InputError, match="the GPU is too small"):
            for batch in generate(loaded, prompts, 1, SAMPLED, 1, "paged"):
                found += batch
    assert found == whole[:2]
    assert complete(loaded, prompts, 1, "paged", 1) == whole


def test_random_numbers_are_drawn_once_for_each_sequence(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []

    def counted(seed: int, prompt: str, sample: int, steps: int) -> Any:
        drawn.append((prompt, sample))
        return uniforms(seed, prompt, sample, steps)

    monkeypatch.setattr("tutelage_transformers.generation.engine.uniforms", counted)
    complete(loaded, prompts_of(loaded, 10), 3, "paged", 8)
    assert len(drawn) == len(set(drawn)) == 30


def test_only_an_engine_that_refills_its_batch_answers_many_requests_in_the_time_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Padded batches are computed one after the other, so a call of many chunks would only store results later."""
    settings = TransformersSettings(device="cpu", processes=1)
    monkeypatch.setattr(memory, "kernels_problem", lambda device: None)
    assert memory.sequences_at_once(settings) == memory.MAX_SEQUENCES
    assert memory.sequences_at_once(evolve(settings, engine="padded")) is None
    monkeypatch.setattr(memory, "kernels_problem", lambda device: "triton is not installed")
    assert memory.sequences_at_once(settings) is None
