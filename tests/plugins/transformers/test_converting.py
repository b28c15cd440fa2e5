"""Checkpoints in another type or quantised: still whole, still safetensors, still the same model."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import PluginError
from tutelage.installation import install_command
from tutelage.plugin_info import Conversion
from tutelage.plugins.registry import Registry
from tutelage_transformers.models.converting import convert


@pytest.fixture
def checkpoint(base: Path, tmp_path: Path) -> Path:
    """A checkpoint with an adapter beside it."""
    folder = Path(shutil.copytree(base, tmp_path / "checkpoint"))
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_model.safetensors").write_bytes(b"adapter")
    return folder


def logits(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        return model(torch.arange(5, 20)[None]).logits.float()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weights_are_stored_in_the_requested_type(checkpoint: Path, tmp_path: Path, dtype: Any) -> None:
    from safetensors import safe_open

    output = tmp_path / "output"
    output.mkdir()
    convert(checkpoint, output, Conversion(dtype))
    assert {path.name for path in output.iterdir()} == {path.name for path in checkpoint.iterdir()}
    assert (output / "adapter/adapter_model.safetensors").read_bytes() == b"adapter"
    assert json.loads((output / "config.json").read_text())["dtype"] == dtype
    with safe_open(output / "model.safetensors", "pt") as weights:
        names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
        assert {weights.get_slice(key).get_dtype() for key in weights.keys()} == {names[dtype]}  # noqa: SIM118
    before, after = logits(checkpoint), logits(output)
    assert (before - after).abs().max() <= (0 if dtype == "float32" else 0.1 * before.abs().max())


def test_without_bitsandbytes_nothing_is_quantised_and_nothing_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    output = tmp_path / "output"
    output.mkdir()
    command = re.escape(install_command("transformers-4bit"))
    with pytest.raises(PluginError, match=f"bitsandbytes is not installed, and quantisation needs it; run: {command}$"):
        convert(checkpoint, output, Conversion(quantize="4bit"))
    assert list(output.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("bits", "kind"), [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_a_quantised_checkpoint_is_small_whole_and_loads_by_itself(tmp_path: Path, bits: Any, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    # bitsandbytes quantises in blocks of 64: the base of the other tests is too narrow for it
    checkpoint = Path(Registry.discover(environment={}).offered("models")["tiny/student"].location)
    output = tmp_path / "output"
    output.mkdir()
    convert(checkpoint, output, Conversion(quantize=bits))
    assert {path.name for path in output.iterdir()} == {path.name for path in checkpoint.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(output, local_files_only=True, device_map="cpu")
    assert {type(layer.mlp.fc1).__name__ for layer in model.model.layers} == {kind}
    assert (output / "model.safetensors").stat().st_size < 0.4 * (checkpoint / "model.safetensors").stat().st_size
    before, after = logits(checkpoint), logits(output)
    assert (before - after).abs().mean() < 0.25 * before.std()
