"""Tests that need a GPU: the kernels, captured graphs and half precision. Skipped without one.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_gpu.py``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from transformers import AutoModelForCausalLM, Cohere2Config, GemmaConfig, GPTNeoXConfig, LlamaConfig, PhiConfig  # noqa: E402
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm  # noqa: E402
from transformers.models.llama.modeling_llama import LlamaRMSNorm  # noqa: E402

from tutelage.records import Model, Sampling  # noqa: E402
from tutelage_transformers.attention import segments  # noqa: E402
from tutelage_transformers.attention.norms import fuse_norms  # noqa: E402
from tutelage_transformers.attention.rotary import fuse_rotations  # noqa: E402
from tutelage_transformers.attention.segments import Scores  # noqa: E402
from tutelage_transformers.generation import paged  # noqa: E402
from tutelage_transformers.generation.engine import Completion, generate, stop_tokens  # noqa: E402
from tutelage_transformers.generation.requests import GenerationRequest  # noqa: E402
from tutelage_transformers.generation.sampling import NOT_FINITE  # noqa: E402
from tutelage_transformers.generation.weighing import reply_probabilities  # noqa: E402
from tutelage_transformers.models.chat import encode, user_prompt  # noqa: E402
from tutelage_transformers.models.loading import LoadedModel, read, release_all  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training.adapters import drawn_on_the_gpu  # noqa: E402

TOLERANCE = 0.05
"""In bfloat16 the logit of a greedy token is below the largest logit by at most this share of the logits' range. The
logits are those of a plain forward pass over the whole sequence."""


@pytest.fixture(autouse=True)
def _empty_gpu() -> Iterator[None]:
    yield
    release_all()


def prompts_of(loaded: LoadedModel, count: int) -> list[str]:
    choice = random.Random(0)
    words = ["sort", "the", "words", "apple", "pear", "plum", "cat", "dog", "cow", "red", "blue"]
    texts = [" ".join(choice.choices(words, k=choice.randint(1, 60))) for _ in range(count)]
    return [user_prompt(loaded.tokenizer, text) for text in texts]


def complete(
    loaded: LoadedModel, prompts: list[str], n: int, sampling: Sampling, batch: int | None
) -> list[Completion]:
    """All completions, by prompt and sample."""
    batches = generate(loaded, prompts, n, sampling, batch, "paged")
    return sorted(chain(*batches), key=lambda completion: (completion.prompt, completion.sample))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize("dim", [16, 64, 80, 128, 256])
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (8, 4), (4, 1), (40, 2)])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (20, None), (64, 5.0)])
def test_the_attention_kernel_computes_attention(
    dtype: Any, tolerance: float, dim: int, heads: int, kv_heads: int, window: int | None, cap: float | None
) -> None:
    from tutelage_transformers.generation.paged.attention import decode_attention_in_torch
    from tutelage_transformers.generation.paged.kernels import decode_attention

    torch.manual_seed(0)
    sequences, size, blocks = 7, 16, 64
    query = torch.randn(sequences, heads, dim, device="cuda", dtype=dtype)
    keys, values = torch.randn(2, blocks, kv_heads, size, dim, device="cuda", dtype=dtype)
    table = torch.stack([torch.randperm(blocks)[:20] for _ in range(sequences)]).int().cuda()
    lengths = torch.tensor([1, 0, 16, 17, 33, 200, 320], device="cuda")
    scores = Scores(dim**-0.5, window, cap)
    got = decode_attention(query, keys, values, table, lengths, scores)
    expected = decode_attention_in_torch(query.float(), keys.float(), values.float(), table, lengths, scores)
    assert (got.float() - expected).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "dim"), [(8, 64), (1, 256), (5, 80), (32, 80)])
def test_the_cache_kernels_copy_what_indexing_copies(dtype: Any, heads: int, dim: int) -> None:
    from tutelage_transformers.generation.paged.cache_kernels import read_blocks, write_blocks

    torch.manual_seed(0)
    tokens, size, blocks = 37, 16, 9
    keys, values = torch.randn(2, blocks, heads, size, dim, device="cuda", dtype=dtype)
    block = torch.randint(blocks, (tokens,), device="cuda")
    offset = torch.randint(size, (tokens,), device="cuda")
    got = read_blocks(keys, values, block, offset)
    assert all(torch.equal(one, states[block, :, offset]) for one, states in zip(got, (keys, values), strict=True))
    places = torch.randperm(blocks * size, device="cuda")[:tokens]  # no place twice: the order of writes is not defined
    block, offset = places // size, places % size
    key = torch.randn(heads, tokens, dim, device="cuda", dtype=dtype).transpose(0, 1)
    value = torch.randn(tokens, heads, dim, device="cuda", dtype=dtype)
    expected_keys, expected_values = keys.clone(), values.clone()
    expected_keys[block, :, offset], expected_values[block, :, offset] = key, value
    write_blocks(keys, values, block, offset, key, value)
    assert torch.equal(keys, expected_keys)
    assert torch.equal(values, expected_values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [64, 256])
@pytest.mark.parametrize("window", [None, 20])
def test_packed_attention_on_a_gpu_is_that_of_each_sequence_alone(dtype: Any, dim: int, window: int | None) -> None:
    torch.manual_seed(0)
    lengths, keys_of = [5, 70, 1, 33], [9, 70, 40, 35]
    queries = torch.randn(sum(lengths), 4, dim, device="cuda", dtype=dtype, requires_grad=True)
    keys, values = (torch.randn(sum(keys_of), 2, dim, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2))
    starts, key_starts = (
        torch.tensor([0, *accumulate(counts)], device="cuda", dtype=torch.int32) for counts in (lengths, keys_of)
    )
    places = segments.Segments(starts, key_starts, max(lengths), max(keys_of))
    scores = Scores(dim**-0.5, window)
    weight = torch.randn_like(queries)
    got = segments.attend(queries, keys, values, places, scores)
    gradients = torch.autograd.grad((got * weight).sum(), (queries, keys, values))
    wide = [states.detach().float().requires_grad_() for states in (queries, keys, values)]
    repeated = [wide[0], *(segments.repeat_heads(states, 4) for states in wide[1:])]
    expected = segments._by_sequence(repeated[0], repeated[1], repeated[2], places, scores)
    wanted = torch.autograd.grad((expected * weight.float()).sum(), wide)
    for one, other in zip((got, *gradients), (expected, *wanted), strict=True):
        assert (one.float() - other).abs().max() < 3e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.5, 4.0])
@pytest.mark.parametrize("vocabulary", [1_000, 51_200, 262_144])
def test_the_sampling_kernel_draws_from_the_nucleus(dtype: Any, spread: float, vocabulary: int) -> None:
    from tutelage_transformers.generation.paged.kernels import sample_from_nucleus

    torch.manual_seed(0)
    count, temperature, top_p = 20_000, 0.7, 0.9
    logits = (torch.randn(1, vocabulary, device="cuda") * spread).to(dtype)
    probabilities = torch.softmax(logits.float() / temperature, -1)[0].double()
    ordered = probabilities.sort(descending=True).values
    smallest = ordered[(ordered.cumsum(0) < top_p).sum()]
    nucleus = torch.where(probabilities >= smallest * (1 - 1e-5), probabilities, 0.0)
    uniform = (torch.arange(count, device="cuda", dtype=torch.float64) + 0.5) / count
    tokens = sample_from_nucleus(
        logits.expand(count, -1),
        torch.full((1,), temperature).cuda(),
        torch.full((1,), top_p).cuda(),
        torch.zeros(1).cuda(),
        uniform,
    )
    drawn = torch.searchsorted(probabilities.cumsum(0), uniform * probabilities.sum(), right=True)
    is_inside = nucleus[drawn] > 0
    # rounding may move the limit of an interval by a token
    assert (tokens[is_inside] == drawn[is_inside]).double().mean() > 0.99
    assert bool((nucleus[tokens] > 0).all())
    # tokens that are drawn again have the distribution of the nucleus, too: by the mean position in its cumulative mass
    position = nucleus.cumsum(0)[tokens[~is_inside]] / nucleus.sum() - nucleus[tokens[~is_inside]] / nucleus.sum() / 2
    assert len(position) > 1_000
    assert abs(float(position.mean()) - 0.5) < 5 * (1 / 12 / len(position)) ** 0.5


@pytest.mark.parametrize(("top_p", "min_p"), [(0.001, 0.0), (0.1, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.2), (0.3, 0.4)])
def test_the_sampling_kernel_takes_any_nucleus(top_p: float, min_p: float) -> None:
    from tutelage_transformers.generation.paged.kernels import sample_from_nucleus

    torch.manual_seed(0)
    logits = torch.randn(2_000, 5_000, device="cuda")
    probabilities = torch.softmax(logits.double(), -1)
    settings = [torch.full((1,), value, device="cuda") for value in (1.0, top_p, min_p)]
    uniform = torch.rand(2_000, device="cuda", dtype=torch.float64)
    tokens = sample_from_nucleus(logits, settings[0], settings[1], settings[2], uniform)
    own = probabilities.gather(1, tokens[:, None])
    above = torch.where(probabilities > own, probabilities, 0.0).sum(1)
    assert bool((above < top_p + 1e-5).all())
    assert bool((own[:, 0] >= min_p * probabilities.amax(1) * (1 - 1e-5)).all())
    assert len(tokens.unique()) > (1_500 if top_p >= 0.1 else 100)


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf"), -float("inf")])
def test_the_sampling_kernel_marks_logits_that_are_not_finite(spoiled: float) -> None:
    from tutelage_transformers.generation.paged.kernels import sample_from_nucleus

    logits = torch.zeros(3, 5_000, device="cuda")
    logits[1, 4_321] = spoiled
    if spoiled < 0:
        logits[1] = spoiled  # a single masked token is allowed
    ones = torch.ones(1, device="cuda")
    tokens = sample_from_nucleus(
        logits, ones, ones, ones * 0, torch.full((3,), 0.5, device="cuda", dtype=torch.float64)
    )
    assert tokens[1] == NOT_FINITE
    assert (tokens[[0, 2]] >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", [LlamaRMSNorm, Gemma3RMSNorm])
@pytest.mark.parametrize("size", [48, 640])
def test_the_norm_kernel_computes_the_norms_of_transformers(dtype: Any, family: Any, size: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleList([family(size, eps=1e-6)]).cuda()
    torch.nn.init.normal_(model[0].weight, 20.0, 4.0)
    model.to(dtype)
    states = torch.randn(1, 7, 5, size, device="cuda", dtype=dtype).transpose(1, 2)
    expected = model[0](states)
    assert fuse_norms(model) == 1
    got = model[0](states)
    assert torch.allclose(got.float(), expected.float(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert got.shape == expected.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", [LlamaConfig, PhiConfig, GemmaConfig, GPTNeoXConfig])
def test_the_rotation_kernel_gives_the_bits_of_transformers_functions(dtype: Any, family: Any) -> None:
    """Phi passes the rotated part of a head, GPT-NeoX the whole head, Llama rotates all of it."""
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2}
    config = family(**shape, num_attention_heads=3, head_dim=32, num_key_value_heads=3)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).cuda().eval()
    ids = torch.arange(40, device="cuda")[None]
    with torch.inference_mode():
        expected = model(ids, use_cache=False).logits
        assert fuse_rotations(model) == 2
        assert torch.equal(model(ids, use_cache=False).logits, expected)


def test_a_rotation_of_neighbouring_dimensions_is_not_replaced() -> None:
    shape = {"vocab_size": 64, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 1}
    config = Cohere2Config(**shape, num_attention_heads=3, num_key_value_heads=3)
    assert fuse_rotations(AutoModelForCausalLM.from_config(config).cuda()) == 0


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_greedy_completions_in_float32_are_those_of_generate(base: Path, batch: int) -> None:
    settings = TransformersSettings(dtype="float32", attention="eager")
    loaded, plain = read(Model("transformers", str(base)), settings), read(Model("transformers", str(base)), settings)
    prompts = prompts_of(loaded, 40)
    completions = complete(loaded, prompts, 1, Sampling(temperature=0, max_new_tokens=24), batch)
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor(encode(plain.tokenizer, [prompt]), device="cuda")
        output = plain.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
        )
        expected = plain.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert completion.text == expected


def test_every_greedy_token_in_bfloat16_is_about_as_probable_as_the_most_probable(base: Path) -> None:
    settings = TransformersSettings(dtype="bfloat16")
    loaded, plain = read(Model("transformers", str(base)), settings), read(Model("transformers", str(base)), settings)
    prompts = encode(plain.tokenizer, prompts_of(loaded, 40))
    requests = [GenerationRequest(index, prompt, 24) for index, prompt in enumerate(prompts)]
    unused = torch.zeros(24, dtype=torch.float64)
    batches = paged.generate(
        loaded, requests, Sampling(temperature=0, max_new_tokens=24), stop_tokens(loaded), lambda _: unused, 64
    )
    generated = {one.index: one.tokens for one in chain(*batches)}
    assert generated.keys() == set(range(40))
    for index, tokens in generated.items():
        ids = prompts[index]
        logits = plain.model(torch.tensor([ids + tokens], device="cuda")).logits[0, len(ids) - 1 : -1].float()
        chosen = logits.gather(1, torch.tensor(tokens, device="cuda")[:, None]).squeeze(1)
        assert len(chosen) >= 1
        spread = logits.amax(1) - logits.amin(1)
        assert bool((logits.amax(1) - chosen <= TOLERANCE * spread).all())


def test_sampled_completions_do_not_depend_on_the_batch_in_float32(base: Path) -> None:
    loaded = read(Model("transformers", str(base)), TransformersSettings(dtype="float32"))
    prompts, sampling = prompts_of(loaded, 30), Sampling(1.0, 0.9, 24, 3)
    assert complete(loaded, prompts, 4, sampling, 128) == complete(loaded, prompts, 4, sampling, 8)


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"min_p": 0.3}, {"top_k": 5, "top_p": 0.5}])
def test_the_paged_engine_samples_within_top_k_and_min_p(base: Path, settings: dict[str, Any]) -> None:
    """A kept model has the attention of the paged engine, so no request may need the padded one."""
    float32 = TransformersSettings(dtype="float32")
    loaded, plain = (read(Model("transformers", str(base)), float32) for _ in range(2))
    prompts = prompts_of(loaded, 20)
    sampling = Sampling(1.0, max_new_tokens=1, seed=1, **settings)
    for completion in complete(loaded, prompts, 32, sampling, None):
        for token in encode(plain.tokenizer, [completion.text])[0]:  # none if it is a special token
            ids = torch.tensor(encode(plain.tokenizer, [prompts[completion.prompt]]), device="cuda")
            probabilities = plain.model(input_ids=ids).logits[0, -1].softmax(-1)
            above = probabilities[probabilities > probabilities[token] * (1 + 1e-4)]
            assert len(above) < settings.get("top_k", 99)
            assert probabilities[token] >= settings.get("min_p", 0.0) * probabilities.max() * (1 - 1e-4)


@pytest.mark.parametrize("batch", [None, 3])
def test_the_scores_of_the_paged_engine_have_the_probabilities_of_the_padded_one(base: Path, batch: int | None) -> None:
    settings = TransformersSettings(dtype="float32", attention="eager")
    loaded = read(Model("transformers", str(base)), settings)
    prompts, replies = prompts_of(loaded, 40), [f"score: {number}" for number in range(6)]
    padded, paged_ones = (
        {one.prompt: one for one in chain(*reply_probabilities(loaded, prompts, replies, batch, which))}
        for which in ("padded", "paged")
    )
    assert padded.keys() == paged_ones.keys() == set(range(40))
    for number, one in padded.items():
        assert paged_ones[number].probabilities == pytest.approx(one.probabilities, rel=1e-3, abs=1e-6)


def test_a_new_adapter_is_drawn_on_the_gpu(base: Path) -> None:
    """PEFT drew the adapter of a model of 2.7 billion weights on the CPU, for more than a second."""
    from peft import LoraConfig, get_peft_model

    def drawn(seed: int) -> dict[str, Any]:
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True).to("cuda")
        torch.manual_seed(seed)
        with drawn_on_the_gpu(model.device):
            adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
        return {name: weight for name, weight in adapted.named_parameters() if "lora_A" in name}

    on_cpu = torch.manual_seed(3).get_state()
    first = drawn(3)
    assert torch.equal(torch.get_rng_state(), on_cpu), "nothing was drawn on the CPU"
    assert {weight.device.type for weight in first.values()} == {"cuda"}
    again, other = drawn(3), drawn(4)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not any(torch.equal(weight, other[name]) for name, weight in first.items())
