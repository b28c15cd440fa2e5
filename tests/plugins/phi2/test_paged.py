"""The paged engine's own promises; that it answers as the padded one does is in ``test_engine.py``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.records import Model, Sampling
from tutelage_phi2.generation.engine import Reply, generate
from tutelage_phi2.generation.memory import bytes_per_token
from tutelage_phi2.generation.paged import attention, decoding, engine
from tutelage_phi2.generation.paged.pages import PagePool
from tutelage_phi2.models.chat import question
from tutelage_phi2.models.loading import Loaded, read
from tutelage_phi2.settings import Phi2Settings

WORDS = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=3)


@pytest.fixture
def loaded(base: Path) -> Loaded:
    return read(Model("phi2", str(base)), Phi2Settings())


def prompts_of(loaded: Loaded, count: int) -> list[str]:
    choice = random.Random(0)
    return [question(loaded.tokenizer, " ".join(choice.choices(WORDS, k=choice.randint(1, 60)))) for _ in range(count)]


def reply_all(loaded: Loaded, prompts: list[str], n: int, which: str, batch: int | None = None) -> list[Reply]:
    replies = [reply for replies in generate(loaded, prompts, n, SAMPLED, batch, which) for reply in replies]
    return sorted(replies, key=lambda reply: (reply.prompt, reply.sample))


def test_rows_of_one_prompt_share_its_whole_pages_but_not_its_last_token() -> None:
    pool = PagePool(pages=20, page_size=4)
    prompt = list(range(9))
    first, second = pool.place(prompt, 14), pool.place(prompt, 14)
    assert first is not None
    assert second is not None
    assert (first.shared, second.shared) == (0, 8)
    assert first.pages[:2] == second.pages[:2]
    assert not set(first.pages[2:]) & set(second.pages[2:])


def test_a_prompt_that_fills_its_pages_reads_its_last_page_again() -> None:
    pool = PagePool(pages=20, page_size=4)
    pool.place(list(range(8)), 12)
    again = pool.place(list(range(8)), 12)
    assert again is not None
    assert again.shared == 4


def test_rows_share_as_far_as_they_begin_alike() -> None:
    pool = PagePool(pages=40, page_size=4)
    rubric = list(range(100, 110))
    first, second = pool.place([*rubric, 1, 2, 3, 4, 5], 20), pool.place([*rubric, 6, 7, 8, 9, 10], 20)
    assert first is not None
    assert second is not None
    assert second.shared == 8
    assert set(first.pages) & set(second.pages) == set(first.pages[:2])


def test_the_same_tokens_behind_others_are_not_the_same_page() -> None:
    pool = PagePool(pages=20, page_size=2)
    pool.place([1, 2, 7, 8, 0], 6)
    other = pool.place([3, 4, 7, 8, 0], 6)
    assert other is not None
    assert other.shared == 0


def test_pages_are_free_again_when_the_last_row_that_shares_them_is_over() -> None:
    pool = PagePool(pages=11, page_size=4)
    first, second = pool.place(list(range(9)), 12), pool.place(list(range(9)), 12)
    assert first is not None
    assert second is not None
    assert pool.free == 10 - 3 - 1
    pool.release(first)
    assert pool.free == 10 - 3
    pool.release(second)
    assert pool.free == 10
    later = pool.place(list(range(9)), 12)
    assert later is not None
    assert later.shared == 0


def test_a_row_that_finds_too_few_pages_takes_none() -> None:
    pool = PagePool(pages=4, page_size=4)
    assert pool.place(list(range(9)), 16) is None
    assert pool.free == 3
    assert pool.place(list(range(9)), 12) is not None


def test_no_two_rows_that_run_write_into_one_page() -> None:
    choice, pool = random.Random(0), PagePool(pages=200, page_size=4)
    running: list[tuple[Any, int]] = []
    for _ in range(500):
        if running and choice.random() < 0.5:
            pool.release(running.pop(choice.randrange(len(running)))[0])
        prompt = [choice.randint(0, 1) for _ in range(choice.randint(1, 12))]
        if placement := pool.place(prompt, len(prompt) + choice.randint(1, 9)):
            running.append((placement, len(prompt)))
        own = [page for placement, length in running for page in placement.pages[(length - 1) // 4 :]]
        assert len(own) == len(set(own))
        assert 0 not in own


@pytest.mark.parametrize("pages", [10, 25, 200])
def test_few_pages_give_the_same_replies(loaded: Loaded, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    prompts = prompts_of(loaded, 10)
    padded = reply_all(loaded, prompts, 3, "padded")
    few = pages * attention.PAGE_SIZE * bytes_per_token(loaded.model)
    monkeypatch.setattr(engine, "bytes_for_pages", lambda model: few)
    assert reply_all(loaded, prompts, 3, "paged") == padded


def test_where_memory_runs_out_the_cache_shrinks(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    made: list[int] = []

    def empty(model: Any, pages: int) -> attention.Cache:
        if pages > 30:
            raise torch.OutOfMemoryError("no room")
        made.append(pages)
        return whole(model, pages)

    whole = attention.Cache.empty
    monkeypatch.setattr(attention.Cache, "empty", empty)
    prompts = prompts_of(loaded, 10)
    padded = reply_all(loaded, prompts, 3, "padded")
    assert reply_all(loaded, prompts, 3, "paged") == padded
    assert made
    assert made[0] <= 30


def test_where_memory_runs_out_prompts_are_read_in_smaller_passes(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    passes: list[int] = []
    whole = decoding.Decoder._read

    def small(self: decoding.Decoder, slots: Any, rows: Any) -> None:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("no room")
        passes.append(len(rows))
        whole(self, slots, rows)

    prompts = prompts_of(loaded, 10)
    padded = reply_all(loaded, prompts, 3, "padded")
    monkeypatch.setattr(decoding.Decoder, "_read", small)
    assert reply_all(loaded, prompts, 3, "paged") == padded
    assert sum(passes) == 30


def test_a_gpu_that_cannot_hold_one_row_is_one_error(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "bytes_for_pages", lambda model: 0)
    with pytest.raises(InputError, match=r"the GPU is too small: a row of \d+ tokens needs"):
        reply_all(loaded, prompts_of(loaded, 2), 1, "paged")


def test_a_reader_that_stops_early_leaves_the_decoder_ready(loaded: Loaded) -> None:
    prompts = prompts_of(loaded, 10)
    padded = reply_all(loaded, prompts, 3, "padded")
    begun: Any = generate(loaded, prompts, 3, SAMPLED, 8, "paged")
    next(begun)
    begun.close()
    assert reply_all(loaded, prompts, 3, "paged", 8) == padded


def test_a_decoder_grows_with_what_is_asked_of_it(loaded: Loaded) -> None:
    prompts = prompts_of(loaded, 12)
    padded = reply_all(loaded, prompts, 3, "padded")
    few = reply_all(loaded, prompts[:1], 1, "paged")
    assert few == [padded[0]]
    assert reply_all(loaded, prompts, 3, "paged") == padded


def test_a_model_with_a_window_of_attention_is_not_paged(loaded: Loaded) -> None:
    loaded.model.config.sliding_window = 64
    try:
        with pytest.raises(InputError, match=r"settings\.engine: this model cannot be paged"):
            reply_all(loaded, prompts_of(loaded, 1), 1, "paged")
    finally:
        del loaded.model.config.sliding_window
