"""The paged engine with models of several families on a GPU, where its steps are captured graphs. Needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from family_checks import compare_engine, completed, load, prompts_of  # noqa: E402
from model_families import FAMILIES, write_family  # noqa: E402

from tutelage_transformers.generation.dispatch import release_all  # noqa: E402
from tutelage_transformers.generation.paged import engine  # noqa: E402
from tutelage_transformers.models.chat import encode  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402

Dtype = Literal["float32", "bfloat16", "float16"]
DENSE = ("llama", "qwen2", "gemma2", "gemma3_text", "phi3", "gpt2")
MIXTURES = ("mixtral", "qwen3_moe", "olmoe")
"""Mixtures of experts: a token's experts depend on its values, so a captured step must not fix them."""
TOLERANCE = 0.05
"""As in ``test_gpu.py``: share of the logits' range by which the logit of a greedy token is below the largest logit."""
WITHIN_TOLERANCE = 0.95
"""Share of the tokens within the tolerance. Rounding changes the experts of a few tokens, and so their logits. On a CPU
the share is 0.995 or more; with the wrong experts, it is below 0.2."""


def folder_of(name: str, folder: Path) -> Path:
    return write_family(next(family for family in FAMILIES if family.model_type == name), folder)


@pytest.fixture(autouse=True)
def _empty_gpu() -> Iterator[None]:
    yield
    release_all()


@pytest.mark.parametrize("name", [*DENSE, *MIXTURES])
def test_greedy_completions_of_the_paged_engine_on_a_gpu_are_those_of_generate(name: str, tmp_path: Path) -> None:
    settings = TransformersSettings(device="cuda", dtype="float32")
    compared = compare_engine(folder_of(name, tmp_path), "paged", settings=settings)
    assert compared.different == 0
    assert compared.distinct > 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", MIXTURES)
def test_greedy_tokens_of_a_mixture_in_16_bits_are_about_as_probable_as_the_most_probable(
    name: str, dtype: Dtype, tmp_path: Path
) -> None:
    settings = TransformersSettings(device="cuda", dtype=dtype)
    loaded, plain = (load(folder_of(name, tmp_path), settings) for _ in range(2))
    prompts = prompts_of(plain.tokenizer, 40)
    completions = completed(loaded, prompts, "paged")
    assert len({tuple(tokens) for tokens in completions}) > 30
    within: list[bool] = []
    for ids, tokens in zip(encode(plain.tokenizer, prompts), completions, strict=True):
        with torch.inference_mode():
            logits = plain.model(torch.tensor([ids + tokens], device="cuda")).logits[0, len(ids) - 1 : -1].float()
        chosen = logits.gather(1, torch.tensor(tokens, device="cuda")[:, None]).squeeze(1)
        within += (logits.amax(1) - chosen <= TOLERANCE * (logits.amax(1) - logits.amin(1))).tolist()
    assert len(within) > 400
    assert sum(within) / len(within) >= WITHIN_TOLERANCE


@pytest.mark.parametrize(
    ("name", "dtype", "captured"),
    [
        ("llama", "float32", True),
        ("llama", "float16", True),
        ("mixtral", "float32", False),
        ("olmoe", "float16", False),
        ("qwen3_moe", "bfloat16", torch.cuda.is_available() and torch.cuda.get_device_capability()[0] in {9, 10}),
    ],
)
def test_steps_are_captured_unless_the_products_of_experts_copy_to_the_cpu(
    name: str, dtype: Dtype, captured: bool, tmp_path: Path
) -> None:
    loaded = load(folder_of(name, tmp_path), TransformersSettings(device="cuda", dtype=dtype))
    completed(loaded, prompts_of(loaded.tokenizer, 2), "paged")
    assert bool(engine._kept[loaded].decoder._graphs) == captured
