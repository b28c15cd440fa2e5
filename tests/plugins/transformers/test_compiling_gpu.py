"""Triton kernels that are compiled in threads. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_compiling_gpu.py``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from family_checks import load, prompts_of  # noqa: E402
from model_families import FAMILIES, write_family  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402

from tutelage.objectives import Lora  # noqa: E402
from tutelage.records import Sampling  # noqa: E402
from tutelage_transformers.devices.compiling import compiling_in_threads  # noqa: E402
from tutelage_transformers.generation.dispatch import release_all  # noqa: E402
from tutelage_transformers.generation.engine import generate  # noqa: E402
from tutelage_transformers.settings import TransformersSettings  # noqa: E402
from tutelage_transformers.training import adapters  # noqa: E402

SETTINGS = TransformersSettings(device="cuda", dtype="bfloat16")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The number of times that each kernel is compiled or read from Triton's cache, as in a new process."""
    import triton

    from tutelage_transformers.generation.paged import cache_kernels, kernels
    from tutelage_transformers.training import adapter_kernels

    for module in (adapter_kernels, cache_kernels, kernels):
        for function in vars(module).values():
            if isinstance(function, triton.runtime.JITFunction):
                function.device_caches.clear()
    found: Counter[str] = Counter()

    def count(*, metadata: Any, **_: Any) -> None:
        found[metadata["name"]] += 1

    monkeypatch.setattr(triton.knobs.compilation, "listener", count)
    yield found
    release_all()


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi", "gpt2"])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_first_calls_of_a_decoders_kernels_are_compiled_for_its_passes(
    name: str, count: int, tmp_path: Path, compilations: Counter[str]
) -> None:
    """Each kernel is compiled once: the passes need no other version of it. Seen: two tensors in one allocation, whose
    addresses were multiples of 16 for some numbers of sequences only."""
    loaded = load(write_family(next(family for family in FAMILIES if family.model_type == name), tmp_path), SETTINGS)
    prompts = prompts_of(loaded.tokenizer, count)
    completions = list(generate(loaded, prompts, 1, Sampling(0.7, 0.9, 20), engine="paged"))
    assert sum(map(len, completions)) == count
    ours = {"_write_blocks", "_read_blocks", "_decode_attention", "_sample_from_nucleus"}
    assert {kernel: compilations[kernel] for kernel in ours} == dict.fromkeys(ours, 1)


@pytest.mark.parametrize(("rank", "dropout"), [(8, 0.05), (16, 0.0), (64, 0.05)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_calls_of_the_kernels_of_lora_layers_are_compiled_for_all_of_them(
    dtype: Any, rank: int, dropout: float, compilations: Counter[str]
) -> None:
    base = torch.nn.Sequential(torch.nn.Linear(640, 1024), torch.nn.Linear(1024, 320)).to("cuda", torch.bfloat16)
    config = LoraConfig(r=rank, lora_dropout=dropout, target_modules=["0", "1"])
    settings = TransformersSettings(device="cuda", adapter_dtype=dtype)
    with adapters.kernels_compiled(Lora(r=rank, dropout=dropout), settings):
        model = get_peft_model(base, config)
    adapters.cast_adapters(model, getattr(torch, dtype))
    assert adapters.fuse_adapters(model) == 2
    ours = {"_project": 1, "_gradients": 1}
    assert {kernel: compilations[kernel] for kernel in ours} == ours
    for rows in (1, 37, 1024):
        model(torch.ones(rows, 640, device="cuda", dtype=torch.bfloat16)).sum().backward()
    assert {kernel: compilations[kernel] for kernel in ours} == ours


def test_an_error_of_a_first_call_is_dropped() -> None:
    made = []

    def fail() -> None:
        raise RuntimeError("this kernel cannot be compiled")

    with compiling_in_threads(torch.device("cuda"), lambda: [fail, lambda: made.append(torch.cuda.current_device())]):
        pass
    assert made == [0]


@pytest.mark.parametrize("fails", ["triton.runtime.cache.triton_key", "torch.zeros"])
def test_an_error_before_the_first_call_is_dropped(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that uses no kernel must not end because the C compiler of Triton fails, or because of no memory."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no compiler")

    monkeypatch.setattr(fails, fail)
    reached = []
    with adapters.kernels_compiled(Lora(), SETTINGS):
        reached.append("the training")
    assert reached == ["the training"]


def test_the_filters_of_warnings_are_as_before_although_triton_changes_them(compilations: Counter[str]) -> None:
    before = list(warnings.filters)
    for _ in range(3):
        with adapters.kernels_compiled(Lora(r=8), SETTINGS):
            pass
    assert compilations
    assert warnings.filters == before


def test_nothing_is_compiled_for_a_training_that_cannot_use_the_kernels(compilations: Counter[str]) -> None:
    for lora, settings in [
        (None, SETTINGS),
        (Lora(), TransformersSettings(device="cuda", dtype="float32")),
        (Lora(), TransformersSettings(device="cuda", packing=False)),
        (Lora(), TransformersSettings(device="cpu")),
    ]:
        with adapters.kernels_compiled(lora, settings):
            pass
    assert not compilations
