from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.installation import install_command
from tutelage.records import Model
from tutelage_transformers.models import loading
from tutelage_transformers.models.finding import require
from tutelage_transformers.settings import TransformersSettings, settings_of


def load(name: str | Path, **settings: object) -> loading.LoadedModel:
    return loading.load(Model("transformers", str(name)), TransformersSettings(**settings))  # type: ignore[arg-type]


def count_questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the models that the hub is asked for, as they are asked; downloads fail the test."""
    from huggingface_hub import HfApi

    asked: list[str] = []
    original = HfApi.model_info

    def counted(self: HfApi, name: str, **options: Any) -> Any:
        asked.append(name)
        return original(self, name, **options)

    monkeypatch.setattr(HfApi, "model_info", counted)
    monkeypatch.setattr(loading, "read_tokenizer", lambda *_: pytest.fail("transformers was asked for the model"))
    return asked


@pytest.mark.parametrize("name", ["/nowhere/M1", "./M1", "runs/demo/seed-0/M1", "tests/M1", "~/no-such-model"])
def test_a_missing_folder_is_one_error_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = count_questions(monkeypatch)
    with pytest.raises(InputError, match="there is no such folder"):
        load(name)
    assert asked == []


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config.json"):
        load(tmp_path)


@pytest.mark.parametrize(("local_files_only", "questions"), [(True, 0), (False, 1)])
def test_a_hub_model_that_is_not_available_is_one_error_after_at_most_one_question(
    monkeypatch: pytest.MonkeyPatch, local_files_only: bool, questions: int
) -> None:
    asked = count_questions(monkeypatch)
    with pytest.raises(InputError, match="microsoft/no-such-phi"):
        load("microsoft/no-such-phi", local_files_only=local_files_only)
    assert asked == ["microsoft/no-such-phi"] * questions


def test_a_hub_that_cannot_be_reached_is_one_error_at_once() -> None:
    program = (
        "from tutelage.errors import InputError\n"
        "from tutelage_transformers.models.finding import is_local\n"
        "try:\n    is_local('microsoft/no-such-phi', False)\n"
        "except InputError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert "the hub cannot be reached" in result.stdout


def test_missing_weights_are_never_filled_with_random_ones(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, tmp_path / "M1")
    weights = load_file(base / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "M1" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of the weights, such as lm_head.weight"):
        load(tmp_path / "M1")


def test_a_package_that_is_not_installed_is_named() -> None:
    command = re.escape(install_command("transformers"))
    with pytest.raises(PluginError, match=f"no_such_package not installed; run: {command}$"):
        require("torch", "no_such_package")


def test_a_name_that_no_hub_could_have_is_refused() -> None:
    with pytest.raises(InputError, match="a name of the hub"):
        load("micro soft/phi--2")


def test_broken_weights_are_one_error(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "M1")
    (tmp_path / "M1" / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="it cannot be read"):
        load(tmp_path / "M1")


def test_a_model_is_read_once_and_again_when_its_weights_changed(base: Path, other_base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "M1")
    first = load(tmp_path / "M1")
    assert load(tmp_path / "M1") is first
    shutil.copy(other_base / "model.safetensors", tmp_path / "M1" / "model.safetensors")
    assert load(tmp_path / "M1") is not first


def test_only_one_model_is_kept(base: Path, other_base: Path) -> None:
    first = weakref.ref(load(base).model)
    load(other_base)
    assert first() is None


def test_release_frees_the_model_it_names_and_no_other(base: Path, other_base: Path) -> None:
    kept = weakref.ref(load(base).model)
    loading.release(Model("transformers", str(other_base)))
    assert kept() is not None
    loading.release(Model("transformers", str(base)))
    assert kept() is None


def test_a_missing_device_is_named(base: Path) -> None:
    with pytest.raises(InputError, match=r"settings.device: 'cuda:77' cannot be used here"):
        load(base, device="cuda:77")
    with pytest.raises(InputError, match=r"settings.device: 'abacus' cannot be used here"):
        load(base, device="abacus")


def test_settings_choose_type_and_attention(base: Path) -> None:
    import torch

    model = load(base, dtype="bfloat16", attention="sdpa").model
    assert (model.dtype, model.config._attn_implementation) == (torch.bfloat16, "sdpa")
    model = load(base, device="cpu").model
    assert (model.dtype, model.config._attn_implementation) == (torch.float32, "eager")


def test_settings_of_another_class_are_refused() -> None:
    with pytest.raises(PluginError, match="its settings are a dict"):
        settings_of(Context(settings={"device": "cpu"}))


def test_a_tokenizer_without_an_end_token_is_refused(make_base: Callable[..., Path]) -> None:
    folder = make_base()
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"eos_token": "<|endoftext|>",', ""))
    with pytest.raises(InputError, match="no end token"):
        load(folder)
