"""QLoRA without an NVIDIA GPU: what is refused, and which weights the adapter is merged into."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.installation import install_command
from tutelage.objectives import Dpo, Lora, Objective, Sft
from tutelage.records import Model
from tutelage_transformers.devices import selection
from tutelage_transformers.models import quantizing
from tutelage_transformers.models.loading import read
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.arguments import lora_config
from tutelage_transformers.training.step import train

FOUR_BIT = TransformersSettings(quantization="4bit")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Dpo(lora=Lora()), "settings.quantization: 4bit needs an NVIDIA GPU, and the device is cpu"),
        (Sft(), "settings.quantization: 4bit needs an adapter"),
    ],
)
def test_an_impossible_4_bit_base_is_refused_before_anything_is_read(
    objective: Objective, message: str, tmp_path: Path
) -> None:
    nowhere = Model("transformers", str(tmp_path / "no-model"))
    settings = TransformersSettings(quantization="4bit", device="cpu")
    with pytest.raises(InputError, match=message):
        train(nowhere, None, objective, tmp_path / "no.jsonl", tmp_path, Context(settings=settings))


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(selection, "device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr(quantizing, "find_spec", lambda _: None)
    command = re.escape(install_command("transformers-4bit"))
    with pytest.raises(PluginError, match=f"bitsandbytes is not installed; run: {command}$"):
        quantizing.check(Dpo(lora=Lora()), FOUR_BIT)


def test_the_4_bit_configuration_is_that_of_the_paper() -> None:
    four_bit = quantizing.four_bit_config(TransformersSettings(device="cpu"))
    assert four_bit.load_in_4bit and four_bit.bnb_4bit_use_double_quant
    assert four_bit.bnb_4bit_quant_type == "nf4"


def test_an_adapter_is_merged_into_the_weights_that_it_is_moved_to(base: Path, other_base: Path) -> None:
    import torch
    from peft import get_peft_model

    torch.manual_seed(0)
    ids = torch.arange(5, 20)[None]
    start, rounded = (
        read(Model("transformers", str(folder)), TransformersSettings()).model for folder in (base, other_base)
    )
    trained = get_peft_model(rounded, lora_config(Lora(r=4, dropout=0), rounded))
    for name, weight in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    deltas = {name: layer.get_delta_weight("default") for name, layer in adapted_layers(trained).items()}
    weights = {name: layer.weight.detach().clone() for name, layer in start.named_modules() if name in deltas}
    moved = quantizing.move_adapter(trained, start)
    with torch.no_grad():
        adapted = moved(ids).logits
        merged = moved.merge_and_unload()
        assert torch.allclose(merged(ids).logits, adapted, atol=1e-4)
    layers = dict(merged.named_modules())
    assert len(deltas) == 12
    for name, delta in deltas.items():
        assert torch.allclose(layers[name].weight, weights[name] + delta, atol=1e-6)


def adapted_layers(model: Any) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    named = model.get_base_model().named_modules()
    return {name: module for name, module in named if isinstance(module, LoraLayer)}


def test_without_quantization_the_trained_model_is_merged_as_it_is() -> None:
    trained = object()
    assert quantizing.on_full_precision(trained, Model("transformers", "nowhere"), TransformersSettings()) is trained
