"""Weights that are written as several files are those of one file, and a failed write is an error."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tutelage.context import Context
from tutelage.objectives import Lora, Sft
from tutelage.records import Model
from tutelage_transformers.models import shards
from tutelage_transformers.models.weights import read_shapes
from tutelage_transformers.training.step import train


@pytest.fixture
def model(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, local_files_only=True)


def test_a_small_model_is_one_file_with_the_bytes_that_transformers_writes(model: Any, tmp_path: Path) -> None:
    shards.save_weights(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    ours, theirs = ({file.name: file.read_bytes() for file in (tmp_path / one).iterdir()} for one in ("ours", "theirs"))
    assert ours == theirs
    assert "model.safetensors" in ours


def test_a_large_model_is_several_files_with_the_bytes_that_transformers_writes(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", "10KB")
    shards.save_weights(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="10KB")
    ours, theirs = ({file.name: file.read_bytes() for file in (tmp_path / one).iterdir()} for one in ("ours", "theirs"))
    assert ours == theirs
    assert len([name for name in ours if name.endswith(".safetensors")]) > 3
    read_shapes(tmp_path / "ours")
    placed = json.loads(ours["model.safetensors.index.json"])["weight_map"]
    loaded = {name: load_file(tmp_path / "ours" / file)[name] for name, file in placed.items()}
    assert all((loaded[name] == weight).all() for name, weight in model.state_dict().items() if name in loaded)


def test_the_error_of_one_file_is_raised_after_all_writes_have_ended(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import modeling_utils

    monkeypatch.setattr(shards, "SHARD_SIZE", "10KB")
    write, in_progress, ended = modeling_utils.safe_save_file, threading.Semaphore(0), []

    def failing(tensors: Any, file: Path, metadata: Any) -> None:
        if "-00001-" in file.name:
            in_progress.acquire()  # fails while the others are written
            raise OSError("disk full")
        write(tensors, file, metadata=metadata)
        ended.append(file)
        in_progress.release()

    monkeypatch.setattr(modeling_utils, "safe_save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        shards.save_weights(model, tmp_path)
    assert len(ended) == len(list(tmp_path.glob("*.safetensors"))) > 2
    assert modeling_utils.safe_save_file is failing


def test_few_files_are_written_by_safetensors_at_a_time(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors copies the tensors of each file from Apple's GPU: eight files of 1 GB would need 8 GB."""
    from transformers import modeling_utils

    monkeypatch.setattr(shards, "SHARD_SIZE", "2KB")
    write, lock, running, most = modeling_utils.safe_save_file, threading.Lock(), 0, 0

    def slow(tensors: Any, file: Path, metadata: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        write(tensors, file, metadata=metadata)
        with lock:
            running -= 1

    monkeypatch.setattr(modeling_utils, "safe_save_file", slow)
    shards.save_weights(model, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 8
    assert 1 < most <= 4


def test_weights_are_readable_for_those_who_can_read_the_configuration(
    base: Path, sft_file: Path, tmp_path: Path
) -> None:
    """safetensors makes files for their owner alone: other users could not use a shared cache."""
    (tmp_path / "M1").mkdir()
    objective = Sft(epochs=1, learning_rate=1e-3, batch_size=4, lora=Lora(r=4, alpha=8))
    train(Model("transformers", str(base)), None, objective, sft_file, tmp_path / "M1", Context(scratch=tmp_path))
    files = [file for file in (tmp_path / "M1").rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"model.safetensors", "adapter_model.safetensors"}
    assert len({file.stat().st_mode for file in files}) == 1
