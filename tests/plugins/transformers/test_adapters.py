"""The fused adapter layers compared with PEFT's own."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.adapters import adapter_dtype, cast_adapters, drawn_on_the_gpu, fuse_adapters


def adapted_layer(dropout: float = 0.0, **options: Any) -> Any:
    """Return a PEFT model of one linear layer whose adapter is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 20))
    adapted = get_peft_model(
        model, LoraConfig(r=3, lora_alpha=9, lora_dropout=dropout, target_modules=["0"], **options)
    )
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    return adapted


def outcome(model: Any) -> list[Any]:
    """Return the output, and the gradients of the input and of the adapter."""
    import torch

    x = torch.linspace(-1, 1, 60).view(1, 5, 12).requires_grad_()
    torch.manual_seed(1)
    result = model(x)
    result.square().sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [result, x.grad, *gradients]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_fused_layer_computes_what_pefts_does_also_with_dropout(dropout: float) -> None:
    import torch

    fused = adapted_layer(dropout)
    assert fuse_adapters(fused) == 1
    for got, expected in zip(outcome(fused), outcome(adapted_layer(dropout)), strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_a_fused_layer_that_is_disabled_is_the_base_and_one_that_is_merged_stays_the_same() -> None:
    import torch

    fused, x = adapted_layer(), torch.ones(2, 12)
    fuse_adapters(fused)
    on = fused(x)
    with fused.disable_adapter():
        off = fused(x)
    base = fused.get_base_model()[0].base_layer(x)
    assert torch.equal(off, base) and not torch.allclose(on, base)
    assert torch.allclose(fused.merge_and_unload()(x), on, atol=1e-5)


def test_other_kinds_of_adapter_are_not_fused() -> None:
    assert fuse_adapters(adapted_layer(use_dora=True)) == 0
    assert fuse_adapters(adapted_layer(lora_bias=True)) == 0


def test_only_trainable_weights_are_cast() -> None:
    import torch

    model = adapted_layer()
    cast_adapters(model, torch.bfloat16)
    types = {name.split(".")[-3 if "lora_" in name else -1]: weight.dtype for name, weight in model.named_parameters()}
    assert types["lora_A"] == types["lora_B"] == torch.bfloat16
    assert types["weight"] == types["bias"] == torch.float32
    fuse_adapters(model)
    assert model(torch.ones(2, 12)).dtype == torch.float32


def test_the_type_of_an_adapter_is_float32_and_bfloat16_on_a_4_bit_base() -> None:
    import torch

    assert adapter_dtype(TransformersSettings()) == torch.float32
    assert adapter_dtype(TransformersSettings(quantization="4bit")) == torch.bfloat16
    assert adapter_dtype(TransformersSettings(quantization="4bit", adapter_dtype="float32")) == torch.float32


def test_on_a_cpu_a_new_adapter_has_the_weights_that_peft_draws() -> None:
    """The embedded run must give the same summary to the digit."""
    import torch
    from peft.tuners.lora.layer import LoraLayer

    original = LoraLayer.update_layer
    with drawn_on_the_gpu(torch.device("cpu")):
        found = adapted_layer().state_dict()
    assert LoraLayer.update_layer is original
    assert all(torch.equal(weight, found[name]) for name, weight in adapted_layer().state_dict().items())


def test_peft_draws_on_the_cpu_again_after_an_adapter_could_not_be_drawn_on_the_gpu() -> None:
    import torch
    from peft.tuners.lora.layer import LoraLayer

    original = LoraLayer.update_layer
    with pytest.raises(ValueError, match="no such layers"), drawn_on_the_gpu(torch.device("cuda")):
        raise ValueError("no such layers")
    assert LoraLayer.update_layer is original
