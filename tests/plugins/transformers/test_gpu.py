"""What only a GPU can show: our kernels, captured steps and half precision. Skipped where there is none.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_gpu.py``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from tutelage.records import Model, Sampling  # noqa: E402
from tutelage_transformers.generation.engine import Reply, generate  # noqa: E402
from tutelage_transformers.models.chat import encode, question  # noqa: E402
from tutelage_transformers.models.loading import Loaded, read, release_all  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402

TOLERANCE = 0.05
"""In bfloat16 a greedy token's logit lies at most this share of the logits' spread under the largest one, which a
plain forward pass over the whole sequence computes."""


@pytest.fixture(autouse=True)
def _empty_gpu() -> Iterator[None]:
    yield
    release_all()


def prompts_of(loaded: Loaded, count: int) -> list[str]:
    choice = random.Random(0)
    words = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
    return [question(loaded.tokenizer, " ".join(choice.choices(words, k=choice.randint(1, 60)))) for _ in range(count)]


def reply_all(loaded: Loaded, prompts: list[str], n: int, sampling: Sampling, batch: int | None) -> list[Reply]:
    replies = [reply for replies in generate(loaded, prompts, n, sampling, batch, "paged") for reply in replies]
    return sorted(replies, key=lambda reply: (reply.prompt, reply.sample))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_the_attention_kernel_is_attention(dtype: Any, tolerance: float) -> None:
    from tutelage_transformers.generation.paged.attention import attend_last_plainly
    from tutelage_transformers.generation.paged.kernels import attend_last

    torch.manual_seed(0)
    rows, heads, kv_heads, dim, page, pages = 7, 8, 4, 80, 16, 64
    query = torch.randn(rows, heads, dim, device="cuda", dtype=dtype)
    keys, values = torch.randn(2, pages, kv_heads, page, dim, device="cuda", dtype=dtype)
    table = torch.stack([torch.randperm(pages)[:20] for _ in range(rows)]).int().cuda()
    lengths = torch.tensor([1, 0, 16, 17, 33, 200, 320], device="cuda")
    got = attend_last(query, keys, values, table, lengths, dim**-0.5)
    expected = attend_last_plainly(query.float(), keys.float(), values.float(), table, lengths, dim**-0.5)
    assert (got.float() - expected).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_the_sampling_kernel_draws_from_the_nucleus(dtype: Any, spread: float) -> None:
    from tutelage_transformers.generation.paged.kernels import choose_in_nucleus

    torch.manual_seed(0)
    count, vocabulary, temperature, top_p = 20_000, 51_200, 0.7, 0.9
    logits = (torch.randn(1, vocabulary, device="cuda") * spread).to(dtype)
    probabilities = torch.softmax(logits.float() / temperature, -1)[0].double()
    ordered = probabilities.sort(descending=True).values
    least = ordered[(ordered.cumsum(0) < top_p).sum()]
    nucleus = torch.where(probabilities >= least * (1 - 1e-5), probabilities, 0.0)
    uniform = (torch.arange(count, device="cuda", dtype=torch.float64) + 0.5) / count
    tokens = choose_in_nucleus(
        logits.expand(count, -1), torch.full((1,), temperature).cuda(), torch.full((1,), top_p).cuda(), uniform
    )
    expected = (nucleus.cumsum(0)[None, :] <= (uniform * nucleus.sum())[:1000, None]).sum(1)
    assert (tokens[:1000] == expected).double().mean() > 0.99  # rounding may move a border by a token
    assert bool((nucleus[tokens] > 0).all())


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_greedy_replies_in_float32_are_those_of_generate(base: Path, batch: int) -> None:
    settings = TransformersSettings(dtype="float32", attention="eager")
    loaded, plain = read(Model("transformers", str(base)), settings), read(Model("transformers", str(base)), settings)
    prompts = prompts_of(loaded, 40)
    replies = reply_all(loaded, prompts, 1, Sampling(temperature=0, max_new_tokens=24), batch)
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = torch.tensor(encode(plain.tokenizer, [prompt]), device="cuda")
        output = plain.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
        )
        expected = plain.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert reply.text == expected


def test_greedy_replies_in_bfloat16_are_as_likely_as_the_likeliest(base: Path) -> None:
    settings = TransformersSettings(dtype="bfloat16")
    loaded, plain = read(Model("transformers", str(base)), settings), read(Model("transformers", str(base)), settings)
    prompts = prompts_of(loaded, 40)
    replies = reply_all(loaded, prompts, 1, Sampling(temperature=0, max_new_tokens=24), 64)
    for prompt, reply in zip(prompts, replies, strict=True):
        (ids,) = encode(plain.tokenizer, [prompt])
        (answer,) = encode(plain.tokenizer, [reply.text])
        if len(answer) != reply.tokens:
            continue  # a control token was left out of the text
        logits = plain.model(torch.tensor([ids + answer], device="cuda")).logits[0, len(ids) - 1 : -1].float()
        chosen = logits.gather(1, torch.tensor(answer, device="cuda")[:, None]).squeeze(1)
        spread = logits.amax(1) - logits.amin(1)
        assert bool((logits.amax(1) - chosen <= TOLERANCE * spread).all())


def test_sampled_replies_do_not_depend_on_the_batch_in_float32(base: Path) -> None:
    loaded = read(Model("transformers", str(base)), TransformersSettings(dtype="float32"))
    prompts, sampling = prompts_of(loaded, 30), Sampling(1.0, 0.9, 24, 3)
    assert reply_all(loaded, prompts, 4, sampling, 128) == reply_all(loaded, prompts, 4, sampling, 8)
