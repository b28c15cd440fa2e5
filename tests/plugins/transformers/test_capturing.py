"""Tests of the decision whether decoding steps are captured. ``test_families_gpu.py`` captures them."""

from __future__ import annotations

from typing import Any

import pytest
from model_families import FAMILIES, config_of

from tutelage_transformers.generation.paged.capturing import can_be_captured

torch = pytest.importorskip("torch")

MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "phimoe", "olmoe", "granitemoe")
"""All mixtures of ``FAMILIES`` that the paged engine supports."""
HALF, WHOLE = "bfloat16", "float32"
HOPPER, BLACKWELL = (9, 0), (10, 3)


def tiny(name: str, dtype: str) -> Any:
    """A model of the family without values."""
    from transformers import AutoModelForCausalLM

    config = config_of(next(family for family in FAMILIES if family.model_type == name))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_of_experts_is_captured_in_bfloat16_on_a_gpu_with_a_kernel_for_it(name: str) -> None:
    assert can_be_captured(tiny(name, HALF), HOPPER)
    assert can_be_captured(tiny(name, HALF), BLACKWELL)
    assert not can_be_captured(tiny(name, HALF), (8, 0))
    assert not can_be_captured(tiny(name, WHOLE), HOPPER)


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (11, 0), (12, 0), (12, 1)])
def test_a_mixture_of_experts_is_not_captured_on_other_gpus(capability: tuple[int, int]) -> None:
    assert not can_be_captured(tiny("mixtral", HALF), capability)


@pytest.mark.parametrize("dtype", [WHOLE, "float16"])
@pytest.mark.parametrize("capability", [(8, 0), HOPPER, BLACKWELL])
def test_a_mixture_of_experts_is_not_captured_in_other_types(dtype: str, capability: tuple[int, int]) -> None:
    assert not can_be_captured(tiny("qwen3_moe", dtype), capability)


@pytest.mark.parametrize("dtype", [WHOLE, HALF, "float16"])
@pytest.mark.parametrize("capability", [(7, 0), (8, 0), HOPPER, (12, 0)])
def test_a_dense_model_is_captured_everywhere(dtype: str, capability: tuple[int, int]) -> None:
    assert can_be_captured(tiny("llama", dtype), capability)


def test_one_layer_of_experts_in_float32_prevents_capturing() -> None:
    model = tiny("olmoe", HALF)
    model.model.layers[1].mlp.experts.float()
    assert not can_be_captured(model, HOPPER)


def test_a_router_in_float32_does_not_prevent_capturing() -> None:
    model = tiny("olmoe", HALF)
    model.model.layers[1].mlp.gate.float()
    assert can_be_captured(model, HOPPER)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm"])
def test_experts_with_another_implementation_are_not_captured(implementation: str) -> None:
    model = tiny("mixtral", HALF)
    model.set_experts_implementation(implementation)
    assert not can_be_captured(model, HOPPER)


def test_experts_of_which_transformers_has_one_implementation_are_not_captured() -> None:
    """Those of JetMoE split their tokens on the CPU."""
    assert not can_be_captured(tiny("jetmoe", HALF), HOPPER)
