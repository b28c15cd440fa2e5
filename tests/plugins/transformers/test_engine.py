from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from tutelage.records import Model, Sampling
from tutelage_transformers.generation.engine import Completion, _completions, generate, stop_tokens, text_decoder
from tutelage_transformers.generation.memory import bytes_per_token, sequences_that_fit
from tutelage_transformers.generation.requests import GeneratedTokens
from tutelage_transformers.generation.sampling import sample_tokens, uniforms
from tutelage_transformers.models.chat import encode, user_prompt
from tutelage_transformers.models.loading import LoadedModel, read
from tutelage_transformers.settings import TransformersSettings

WORDS = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
GREEDY = Sampling(temperature=0, max_new_tokens=12)
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=12, seed=3)


@frozen(eq=False)
class Student(LoadedModel):
    """A model in memory, and the engine that generates with it."""

    engine: str


@pytest.fixture(scope="module", params=["padded", "paged"])
def loaded(request: pytest.FixtureRequest, base: Path) -> Student:
    """The base model for each engine; on a CPU the paged engine runs torch functions in place of its kernels."""
    read_base = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    return Student(read_base.model, read_base.tokenizer, request.param)


def prompts_of(loaded: LoadedModel, count: int) -> list[str]:
    choice = random.Random(0)
    texts = [" ".join(choice.choices(WORDS, k=choice.randint(1, 9))) for _ in range(count)]
    return [user_prompt(loaded.tokenizer, text) for text in texts]


def complete(loaded: Student, prompts: list[str], n: int, sampling: Sampling, batch: int | None) -> list[Completion]:
    """All completions, by prompt and sample."""
    batches = generate(loaded, prompts, n, sampling, batch, loaded.engine)
    return sorted(chain(*batches), key=lambda completion: (completion.prompt, completion.sample))


def reference_ids(plain: LoadedModel, prompt: str, limit: int) -> list[int]:
    """transformers' own greedy ``generate``, one prompt at a time."""
    import torch

    ids = torch.tensor(encode(plain.tokenizer, [prompt]))
    output = plain.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit
    )
    return [int(token) for token in output[0, ids.shape[1] :]]


THINKING_MARKS = ("<|endoftext|>", "<|unk|>", "[THINK]", "[/THINK]")


def test_marks_of_thinking_blocks_stay_in_the_text_even_if_they_are_special_tokens(
    make_base: Callable[..., Path],
) -> None:
    folder = make_base(special=THINKING_MARKS)
    plain = read(Model("transformers", str(folder)), TransformersSettings())
    ids = plain.tokenizer.convert_tokens_to_ids(["<|unk|>", "[THINK]", "cat", "[/THINK]", "dog", "<|endoftext|>"])
    (completion,) = _completions(1, [GeneratedTokens(0, ids)], stop_tokens(plain), text_decoder(plain.tokenizer))
    assert completion.text.split() == ["[THINK]", "cat", "[/THINK]", "dog"]
    assert (completion.tokens, completion.ended) == (5, True)


def test_the_special_tokens_of_a_tokenizer_are_listed_once_however_many_batches_end(
    loaded: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To list the 6,249 special tokens of Gemma takes longer than several decoding steps."""
    kind, listed = type(loaded.tokenizer), []
    original = kind.added_tokens_decoder

    def counted(self: Any) -> Any:
        listed.append(self)
        return original.fget(self)

    monkeypatch.setattr(kind, "added_tokens_decoder", property(counted))
    batches = list(generate(loaded, prompts_of(loaded, 12), 1, GREEDY, 2))
    assert len(batches) > 3
    assert len(listed) == 1


def test_a_completion_of_a_prompt_that_ends_within_a_thinking_block_starts_with_its_mark(loaded: Student) -> None:
    prompt = prompts_of(loaded, 1)[0]
    (inside,) = complete(loaded, [f"{prompt}<think>\n"], 1, GREEDY, 1)
    (outside,) = complete(loaded, [prompt], 1, GREEDY, 1)
    assert inside.text.startswith("<think>\n")
    assert "<think>" not in outside.text


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_greedy_completions_equal_those_of_generate(loaded: Student, base: Path, batch: int) -> None:
    plain = read(Model("transformers", str(base)), TransformersSettings(device="cpu"))
    prompts = prompts_of(loaded, 24)
    completions = complete(loaded, prompts, 1, GREEDY, batch)
    ended = set()
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = reference_ids(plain, prompt, GREEDY.max_new_tokens)
        has_ended = expected[-1] == loaded.tokenizer.eos_token_id
        content = expected[:-1] if has_ended else expected
        assert completion.text == loaded.tokenizer.decode(content, skip_special_tokens=True).strip()
        assert (completion.tokens, completion.ended) == (len(content), has_ended)
        ended.add(has_ended)
    assert ended == {True, False}


def test_each_prompt_gets_each_of_its_completions_once(loaded: Student) -> None:
    completions = complete(loaded, prompts_of(loaded, 7), 3, SAMPLED, 8)
    found = [(completion.prompt, completion.sample) for completion in completions]
    assert found == [(prompt, sample) for prompt in range(7) for sample in range(3)]


def test_a_sampled_completion_does_not_depend_on_its_batch(loaded: Student) -> None:
    prompts = prompts_of(loaded, 12)
    together = complete(loaded, prompts, 4, SAMPLED, 64)
    assert together == complete(loaded, prompts, 4, SAMPLED, 4)
    alone = complete(loaded, [prompts[5]], 4, SAMPLED, 4)
    in_batch = [completion.text for completion in together if completion.prompt == 5]
    assert [completion.text for completion in alone] == in_batch


def test_the_samples_of_a_prompt_differ_and_follow_the_seed(loaded: Student) -> None:
    prompts = prompts_of(loaded, 4)
    texts = {seed: [r.text for r in complete(loaded, prompts, 4, Sampling(1.0, 1.0, 12, seed), 64)] for seed in (0, 1)}
    assert len(set(texts[0])) > 12
    assert texts[0] != texts[1]


def test_top_k_and_min_p_reach_the_sampler(loaded: Student) -> None:
    prompts = prompts_of(loaded, 6)
    free = complete(loaded, prompts, 2, SAMPLED, 64)
    greedy = [one.text for one in complete(loaded, prompts, 2, GREEDY, 64)]
    for one in (evolve(SAMPLED, top_k=1), evolve(SAMPLED, min_p=1.0)):
        assert [found.text for found in complete(loaded, prompts, 2, one, 64)] == greedy
    few = complete(loaded, prompts, 2, evolve(SAMPLED, top_k=3), 64)
    assert [one.text for one in few] not in (greedy, [one.text for one in free])


def test_a_completion_that_reaches_the_limit_has_not_ended(loaded: Student) -> None:
    completions = complete(loaded, prompts_of(loaded, 12), 4, Sampling(1.0, 1.0, 3, 0), 64)
    assert {completion.tokens for completion in completions if not completion.ended} == {3}
    assert all(completion.tokens < 3 for completion in completions if completion.ended)


def test_a_completion_ends_at_the_end_of_the_models_context(loaded: Student) -> None:
    prompts = [user_prompt(loaded.tokenizer, "cat " * 121), *prompts_of(loaded, 1)]
    completions = complete(loaded, prompts, 40, Sampling(1.0, 1.0, 20, 0), None)
    tokens = [max(completion.tokens for completion in completions if completion.prompt == prompt) for prompt in (0, 1)]
    assert tokens == [128 - 123, 20]


def test_a_prompt_that_fills_the_context_is_reported_and_not_cut(loaded: Student) -> None:
    prompts = [user_prompt(loaded.tokenizer, "cat " * 126), *prompts_of(loaded, 1)]
    completions = complete(loaded, prompts, 2, GREEDY, None)
    fits = [(completion.prompt, completion.fits) for completion in completions]
    assert fits == [(0, False), (0, False), (1, True), (1, True)]
    assert completions[0].text == ""


def test_no_prompts_give_no_completions(loaded: Student) -> None:
    assert complete(loaded, [], 4, GREEDY, None) == []


def test_the_nucleus_is_that_of_transformers() -> None:
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    logits = torch.randn(1, 30) * 2
    scores = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.7)(None, logits))
    expected = torch.softmax(scores, -1)[0].double()
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens = sample_tokens(logits.expand(count, -1), Sampling(0.7, 0.8), uniform)
    shares = torch.bincount(tokens, minlength=30).double() / count
    assert torch.equal(shares > 0, expected > 0)
    assert (shares - expected).abs().max() < 2 / count


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.84, 1), (0.85, 2), (0.95, 2), (0.97, 0), (1 - 2**-53, 0)])
def test_tokens_are_sampled_in_order_of_probability_and_the_smallest_nucleus_is_one_token(
    uniform: float, token: int
) -> None:
    import torch

    logits = torch.tensor([[0.0, 3.0, 1.0]])  # probabilities 0.042, 0.844 and 0.114
    number = torch.tensor([uniform], dtype=torch.float64)
    assert sample_tokens(logits, Sampling(1.0, 1.0), number).tolist() == [token]
    assert sample_tokens(logits, Sampling(1.0, 1e-6), number).tolist() == [1]


def test_random_numbers_depend_on_seed_prompt_and_sample() -> None:
    import torch

    rows = [uniforms(7, prompt, sample, 5) for prompt in ("a", "b") for sample in (0, 1)]
    assert len({float(row[0]) for row in rows}) == 4
    assert torch.equal(rows[2], uniforms(7, "b", 0, 5))
    assert not torch.equal(rows[2], uniforms(8, "b", 0, 5))
    assert torch.equal(rows[2], uniforms(7, "b", 0, 50)[:5])


def test_the_number_of_sequences_that_fit_depends_on_model_and_length(
    loaded: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bytes_per_token(loaded.model) == 2 * 2 * 32 * 4
    assert sequences_that_fit(loaded.model, 60, 40) == 512
    assert sequences_that_fit(loaded.model, 2**40, 0) == sequences_that_fit(loaded.model, 0, 2**40) == 1
    monkeypatch.setattr(loaded.model.config, "_attn_implementation", "sdpa")
    assert sequences_that_fit(loaded.model, 2**19, 2**19 - 8) == 4


def test_the_scores_of_eager_attention_leave_room_for_fewer_sequences(
    loaded: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 prompts of 2,000 tokens were to run at once on a GPU of 24 GB, with 13 GB of scores in a layer of Gemma 2."""
    counts = {}
    for name in ("sdpa", "eager"):
        monkeypatch.setattr(loaded.model.config, "_attn_implementation", name)
        counts[name] = [sequences_that_fit(loaded.model, *tokens) for tokens in ((200, 0), (4000, 96), (96, 4000))]
    heads = loaded.model.config.num_attention_heads
    fewer = 2**31 // (4096 * bytes_per_token(loaded.model) + 40 * 64 + 8 * heads * 4000**2)
    assert counts == {"sdpa": [512, 512, 512], "eager": [512, fewer, 512]}
    assert fewer < 20


def test_a_large_vocabulary_leaves_room_for_fewer_sequences(make_grouped: Callable[[], Any]) -> None:
    model = make_grouped()
    assert sequences_that_fit(model, 60, 40) == 512
    model.config.vocab_size = 262_144
    assert 100 < sequences_that_fit(model, 60, 40) < 250


def test_keys_and_values_of_grouped_heads_are_counted_once(make_grouped: Callable[[], Any]) -> None:
    assert bytes_per_token(make_grouped()) == 2 * 3 * 2 * 16 * 4


def test_grouped_heads_give_the_completions_of_generate(loaded: Student, make_grouped: Callable[[], Any]) -> None:
    student = Student(make_grouped(), loaded.tokenizer, loaded.engine)
    plain = LoadedModel(make_grouped(), loaded.tokenizer)
    prompts = prompts_of(loaded, 12)
    for prompt, completion in zip(prompts, complete(student, prompts, 1, GREEDY, 8), strict=True):
        expected = reference_ids(plain, prompt, GREEDY.max_new_tokens)
        assert completion.text == loaded.tokenizer.decode(expected, skip_special_tokens=True).strip()


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_texts_so_far_of_the_only_completion_grow_into_it(loaded: Student, sampling: Sampling) -> None:
    texts: list[str] = []
    prompts = prompts_of(loaded, 20)
    longest = max(complete(loaded, prompts, 1, sampling, None), key=lambda completion: completion.tokens)
    prompt, other = prompts[longest.prompt], prompts[0]
    [[completion]] = generate(loaded, [prompt], 1, sampling, None, loaded.engine, on_text=texts.append)
    assert completion == evolve(longest, prompt=0)
    assert len(set(texts)) > 1 and texts[-1] == completion.text
    assert all(completion.text.startswith(text) for text in texts)
    texts.clear()
    for several, n in (([prompt, other], 1), ([prompt], 2)):
        list(generate(loaded, several, n, sampling, None, loaded.engine, on_text=texts.append))
    assert texts == []
