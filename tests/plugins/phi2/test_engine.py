from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tutelage.records import Model, Sampling
from tutelage_phi2.generation.choosing import choose, uniforms
from tutelage_phi2.generation.engine import Reply, generate
from tutelage_phi2.generation.memory import bytes_per_token, rows_that_fit
from tutelage_phi2.models.chat import encode, question
from tutelage_phi2.models.loading import Loaded, read
from tutelage_phi2.settings import Phi2Settings

WORDS = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
GREEDY = Sampling(temperature=0, max_new_tokens=12)
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=3)


@frozen(eq=False)
class Student(Loaded):
    """A model in memory that one of the engines serves."""

    engine: str


@pytest.fixture(scope="module", params=["padded", "paged"])
def loaded(request: pytest.FixtureRequest, base: Path) -> Student:
    """The base model for either engine: on this machine the paged one runs with torch in place of its kernels."""
    read_base = read(Model("phi2", str(base)), Phi2Settings())
    return Student(read_base.model, read_base.tokenizer, request.param)


def prompts_of(loaded: Loaded, count: int) -> list[str]:
    choice = random.Random(0)
    return [question(loaded.tokenizer, " ".join(choice.choices(WORDS, k=choice.randint(1, 9)))) for _ in range(count)]


def reply_all(loaded: Student, prompts: list[str], n: int, sampling: Sampling, batch: int | None) -> list[Reply]:
    batches = generate(loaded, prompts, n, sampling, batch, loaded.engine)
    replies = [reply for replies in batches for reply in replies]
    return sorted(replies, key=lambda reply: (reply.prompt, reply.sample))


def reference_ids(plain: Loaded, prompt: str, limit: int) -> list[int]:
    """transformers' own greedy ``generate``, one prompt at a time."""
    import torch

    ids = torch.tensor(encode(plain.tokenizer, [prompt]))
    output = plain.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit
    )
    return [int(token) for token in output[0, ids.shape[1] :]]


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_greedy_replies_are_those_of_generate_token_for_token(loaded: Student, base: Path, batch: int) -> None:
    plain = read(Model("phi2", str(base)), Phi2Settings())
    prompts = prompts_of(loaded, 24)
    replies = reply_all(loaded, prompts, 1, GREEDY, batch)
    ended = set()
    for prompt, reply in zip(prompts, replies, strict=True):
        expected = reference_ids(plain, prompt, GREEDY.max_new_tokens)
        ends = expected[-1] == loaded.tokenizer.eos_token_id
        content = expected[:-1] if ends else expected
        assert reply.text == loaded.tokenizer.decode(content, skip_special_tokens=True).strip()
        assert (reply.tokens, reply.ended) == (len(content), ends)
        ended.add(ends)
    assert ended == {True, False}


def test_each_prompt_gets_each_of_its_replies_once(loaded: Student) -> None:
    replies = reply_all(loaded, prompts_of(loaded, 7), 3, SAMPLED, 8)
    assert [(reply.prompt, reply.sample) for reply in replies] == [(p, s) for p in range(7) for s in range(3)]


def test_a_sampled_reply_does_not_depend_on_the_batch_that_it_fell_into(loaded: Student) -> None:
    prompts = prompts_of(loaded, 12)
    together = reply_all(loaded, prompts, 4, SAMPLED, 64)
    assert together == reply_all(loaded, prompts, 4, SAMPLED, 4)
    alone = reply_all(loaded, [prompts[5]], 4, SAMPLED, 4)
    assert [reply.text for reply in alone] == [reply.text for reply in together if reply.prompt == 5]


def test_the_samples_of_a_prompt_differ_and_follow_the_seed(loaded: Student) -> None:
    prompts = prompts_of(loaded, 4)
    texts = {seed: [r.text for r in reply_all(loaded, prompts, 4, Sampling(1.0, 1.0, 12, seed), 64)] for seed in (0, 1)}
    assert len(set(texts[0])) > 12
    assert texts[0] != texts[1]


def test_a_reply_that_meets_the_limit_has_not_ended(loaded: Student) -> None:
    replies = reply_all(loaded, prompts_of(loaded, 12), 4, Sampling(1.0, 1.0, 3, 0), 64)
    assert {reply.tokens for reply in replies if not reply.ended} == {3}
    assert all(reply.tokens < 3 for reply in replies if reply.ended)


def test_a_reply_ends_where_the_models_context_does(loaded: Student) -> None:
    prompts = [question(loaded.tokenizer, "cat " * 121), *prompts_of(loaded, 1)]
    replies = reply_all(loaded, prompts, 40, Sampling(1.0, 1.0, 20, 0), None)
    tokens = [max(reply.tokens for reply in replies if reply.prompt == prompt) for prompt in (0, 1)]
    assert tokens == [128 - 123, 20]


def test_a_prompt_that_fills_the_context_is_told_not_cut(loaded: Student) -> None:
    prompts = [question(loaded.tokenizer, "cat " * 126), *prompts_of(loaded, 1)]
    replies = reply_all(loaded, prompts, 2, GREEDY, None)
    assert [(reply.prompt, reply.fits) for reply in replies] == [(0, False), (0, False), (1, True), (1, True)]
    assert replies[0].text == ""


def test_no_prompts_give_no_replies(loaded: Student) -> None:
    assert reply_all(loaded, [], 4, GREEDY, None) == []


def test_the_nucleus_is_that_of_transformers() -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(1, 30) * 2
    scores = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.7)(None, logits))
    expected = torch.softmax(scores, -1)[0].double()
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens = choose(logits.expand(count, -1), Sampling(0.7, 0.8), uniform)
    shares = torch.bincount(tokens, minlength=30).double() / count
    assert torch.equal(shares > 0, expected > 0)
    assert (shares - expected).abs().max() < 2 / count


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_the_smallest_nucleus_is_the_likeliest_token(uniform: float) -> None:
    import torch

    logits = torch.tensor([[0.0, 3.0, 1.0]])
    assert choose(logits, Sampling(1.0, 1e-6), torch.tensor([uniform], dtype=torch.float64)).tolist() == [1]
    assert choose(logits, Sampling(1.0, 1.0), torch.tensor([uniform], dtype=torch.float64)).tolist()[0] in (0, 1, 2)


def test_random_numbers_belong_to_prompt_and_sample() -> None:
    import torch

    rows = [uniforms(7, prompt, sample, 5) for prompt in ("a", "b") for sample in (0, 1)]
    assert len({float(row[0]) for row in rows}) == 4
    assert torch.equal(rows[2], uniforms(7, "b", 0, 5))
    assert not torch.equal(rows[2], uniforms(8, "b", 0, 5))
    assert torch.equal(rows[2], uniforms(7, "b", 0, 50)[:5])


def test_the_rows_that_fit_follow_from_model_and_length(loaded: Loaded) -> None:
    assert bytes_per_token(loaded.model) == 2 * 2 * 32 * 4
    assert rows_that_fit(loaded.model, 100) == 512
    assert rows_that_fit(loaded.model, 2**20) == 4
    assert rows_that_fit(loaded.model, 2**40) == 1


def test_keys_and_values_of_grouped_heads_are_counted_once(make_grouped: Callable[[], Any]) -> None:
    assert bytes_per_token(make_grouped()) == 2 * 3 * 2 * 16 * 4


def test_grouped_heads_give_the_replies_of_generate(loaded: Student, make_grouped: Callable[[], Any]) -> None:
    student = Student(make_grouped(), loaded.tokenizer, loaded.engine)
    plain = Loaded(make_grouped(), loaded.tokenizer)
    prompts = prompts_of(loaded, 12)
    for prompt, reply in zip(prompts, reply_all(student, prompts, 1, GREEDY, 8), strict=True):
        expected = reference_ids(plain, prompt, GREEDY.max_new_tokens)
        assert reply.text == loaded.tokenizer.decode(expected, skip_special_tokens=True).strip()
