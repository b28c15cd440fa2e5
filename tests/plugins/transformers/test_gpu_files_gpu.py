"""Weights files that are written from a GPU have the bytes that safetensors writes. Skipped without a GPU.

On a GPU machine: ``python -m pytest tests/plugins/transformers/test_gpu_files_gpu.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

from safetensors.torch import save_file  # noqa: E402
from saved_files import assert_saved_as_by_transformers  # noqa: E402

from tutelage_transformers.models import gpu_files  # noqa: E402
from tutelage_transformers.models.gpu_files import finish_work, is_writable, write_file  # noqa: E402

METADATA = {"format": "pt"}


def of_all_types(seed: int, largest: int) -> dict[str, Any]:
    """Tensors of each type on the GPU; one of float32 has more than ``largest`` bytes."""
    torch.manual_seed(seed)
    found = {}
    for name in gpu_files._TYPES:
        size = largest // 3 + 1 if name == "float32" else 1001
        found[f"large.{name}"] = torch.randint(0, 100, (size,), device="cuda").to(getattr(torch, name))
        found[f"scalar.{name}"] = torch.tensor(1, device="cuda").to(getattr(torch, name))
        found[f"empty.{name}"] = torch.empty(0, 3, device="cuda", dtype=getattr(torch, name))
    return found


@pytest.mark.parametrize("piece", [1001, 1 << 16, gpu_files.PIECE_BYTES], ids=str)
def test_files_that_are_written_at_the_same_time_have_the_bytes_that_safetensors_writes(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = gpu_files.PIECE_BYTES if piece > 1001 else 5000
    several = [of_all_types(seed, largest) for seed in range(6)]
    monkeypatch.setattr(gpu_files, "PIECE_BYTES", piece)
    assert all(is_writable(tensors) for tensors in several)
    finish_work(several[0])
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda one: write_file(several[one], tmp_path / f"ours-{one}", METADATA), range(6)))
    for one, tensors in enumerate(several):
        save_file(tensors, tmp_path / f"theirs-{one}", METADATA)
        assert (tmp_path / f"ours-{one}").read_bytes() == (tmp_path / f"theirs-{one}").read_bytes()


def test_a_file_has_the_values_that_are_computed_while_its_writing_starts(tmp_path: Path) -> None:
    values = torch.ones(8192, 8192, device="cuda")
    for _ in range(8):
        values = values @ values / 16384 + 0.4
    write_file({"a": values}, tmp_path / "ours")
    save_file({"a": values}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_model_on_a_gpu_has_the_files_that_transformers_writes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.bfloat16).to("cuda")
    assert_saved_as_by_transformers(model, tmp_path, monkeypatch)
