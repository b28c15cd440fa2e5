"""The paged engine with models of several families on a GPU, where its steps are captured graphs. Needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from family_checks import compare_engine  # noqa: E402
from model_families import FAMILIES, write_family  # noqa: E402

from tutelage_transformers.generation.dispatch import release_all  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402

DENSE = ("llama", "qwen2", "gemma2", "gemma3_text", "phi3", "gpt2")
MIXTURES = ("mixtral", "qwen3_moe", "olmoe")
"""Mixtures of experts: a token's experts depend on its values, so a captured step must not fix them."""


@pytest.fixture(autouse=True)
def _empty_gpu() -> Iterator[None]:
    yield
    release_all()


@pytest.mark.parametrize("name", [*DENSE, *MIXTURES])
def test_greedy_completions_of_the_paged_engine_on_a_gpu_are_those_of_generate(name: str, tmp_path: Path) -> None:
    folder = write_family(next(family for family in FAMILIES if family.model_type == name), tmp_path)
    compared = compare_engine(folder, "paged", settings=TransformersSettings(device="cuda", dtype="float32"))
    assert compared.different == 0
    assert compared.distinct > 6
