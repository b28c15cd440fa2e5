"""The writer for tensors on a GPU writes the bytes that safetensors writes. Here, it writes tensors on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import PROBLEM, FullDisk
from safetensors.torch import load_file, save_file
from saved_files import assert_saved_as_by_transformers

from tutelage.errors import StageError
from tutelage_transformers.models import gpu_files
from tutelage_transformers.models.gpu_files import is_writable, write_file

METADATA = {"format": "pt"}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_files, "DEVICE", "cpu")


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def of_all_types() -> dict[str, torch.Tensor]:
    """Three tensors of each type, in an order that is neither that of the file nor that of the names."""
    types = [getattr(torch, name) for name in gpu_files._TYPES]
    found = {f"z.{dtype}".removeprefix("torch."): values(3, 5, dtype=dtype) for dtype in reversed(types)}
    found |= {f"layers.{number}.weight": values(number + 1, dtype=dtype) for number, dtype in enumerate(types)}
    return found | {f"layers.{number}.bias": values(2, 1, 3, dtype=dtype) for number, dtype in enumerate(types)}


CASES: dict[str, Any] = {
    "each type": of_all_types,
    "the usual types": lambda: {
        "b": values(7, 11, dtype=torch.bfloat16),
        "a": values(3, dtype=torch.float32),
        "steps": values(2, dtype=torch.int64),
        "c": values(1, 9, dtype=torch.bfloat16),
        "half": values(5, dtype=torch.float16),
        "mask": values(13, dtype=torch.int32) > 0,
    },
    "scalars": lambda: {"b": torch.tensor(2.5), "a": torch.tensor(True), "c": torch.tensor(3)},
    "empty tensors": lambda: {"b": values(0), "a": values(4, 0, dtype=torch.bfloat16), "c": values(2)},
    "only empty tensors": lambda: {"b": values(0), "a": values(4, 0)},
    "a view of a larger tensor": lambda: {"a": values(9, 4)[2:5], "b": values(9, 4)[7]},
    "views of one tensor that do not overlap": lambda: dict(zip("ab", values(9, 4).split(5), strict=True)),
    "a parameter with a gradient": lambda: {"a": torch.nn.Parameter(values(3, 3))},
    "names to escape": lambda: {'é"\\\n\t\x01\x7f/': values(3), "😀": values(2), "\uffff": values(1)},
}


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 24], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_file_has_the_bytes_that_safetensors_writes(
    case: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_files, "PIECE_BYTES", piece)
    tensors = CASES[case]()
    assert is_writable(tensors)
    write_file(tensors, tmp_path / "ours", METADATA)
    save_file(tensors, tmp_path / "theirs", METADATA)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    loaded = load_file(tmp_path / "ours")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("length", range(8))
def test_the_header_is_padded_to_eight_bytes(length: int, tmp_path: Path) -> None:
    tensors = {"a" * length: values(3)}
    write_file(tensors, tmp_path / "ours")
    save_file(tensors, tmp_path / "theirs")
    content = (tmp_path / "ours").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"a": values(4, 4).T},
        {"a": values(4), "b": torch.zeros(2, dtype=torch.complex64)},
        {"a": values(4).to_sparse()},
        {"a": torch.zeros(2, device="meta")},
        {"a": values(2), "b": torch.zeros(2, device="meta")},
        dict.fromkeys("ab", values(4)),
        (lambda whole: {"whole": whole, "part": whole[1:3]})(values(4)),
    ],
    ids=["none", "not contiguous", "other type", "sparse", "no memory", "two devices", "tied", "overlapping"],
)
def test_other_tensors_are_left_to_safetensors(tensors: dict[str, torch.Tensor]) -> None:
    assert not is_writable(tensors)


def test_tensors_on_the_cpu_are_left_to_safetensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not is_writable({"a": values(4)})


def test_the_permissions_are_those_of_a_new_file_and_a_mapped_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    save_file({"a": values(4)}, tmp_path / "weights")
    mapped = load_file(tmp_path / "weights")
    write_file({"a": values(4) + 1}, tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert torch.equal(mapped["a"], values(4))


def test_a_model_in_several_files_has_the_bytes_that_transformers_writes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.bfloat16)
    assert_saved_as_by_transformers(model, tmp_path, monkeypatch)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_is_an_error_that_names_the_file(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_files, "PIECE_BYTES", 64)
    path = tmp_path / "model.safetensors"
    with FullDisk(tmp_path, after).installed(), pytest.raises(StageError) as raised:
        write_file({"a": values(99)}, path)
    assert str(raised.value) == (
        f"{path}: cannot be written ({PROBLEM}); free space on this disk; finished work is kept, and the same command "
        "continues"
    )
    assert not path.exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system take at most ``size`` bytes of a file: it writes a part of a piece, and then none of the rest."""
    resource = pytest.importorskip("resource", reason="this system has no limits of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_piece_of_which_the_system_writes_a_part_is_an_error(tmp_path: Path) -> None:
    with (
        largest_file(1000),
        pytest.raises(StageError, match=r"model.safetensors: cannot be written \(File too large\)"),
    ):
        write_file({"a": values(999)}, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
