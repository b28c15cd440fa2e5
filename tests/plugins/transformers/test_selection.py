"""The device and the type of the weights that ``auto`` chooses, and which GPUs get the kernels.

No machine of the tests has an Apple, AMD or older NVIDIA GPU: what torch would report there is set.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage_transformers.attention import segments
from tutelage_transformers.devices import capacity, selection
from tutelage_transformers.devices.selection import device_of, dtype_of, half_dtype, is_nvidia, kernels_problem
from tutelage_transformers.generation.sampling import device_of_sampling
from tutelage_transformers.models.quantizing import four_bit_config
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.adapters import adapter_dtype, has_kernels

AUTO = TransformersSettings()
QLORA = TransformersSettings(quantization="4bit", device="cuda:0")


class Gpu:
    """What torch reports of a machine."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def cuda(self, bfloat16: bool, hip: str | None = None, capability: tuple[int, int] = (8, 0)) -> None:
        def is_bf16_supported(including_emulation: bool = True) -> bool:
            return bfloat16 or including_emulation

        self.patch.setattr(torch.cuda, "is_available", lambda: True)
        self.patch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
        self.patch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        self.patch.setattr(torch.version, "hip", hip)
        self.patch.setattr(torch.cuda, "device", lambda device: torch.device("cpu"))  # a context manager, too
        self.patch.setattr(selection, "device_of", lambda settings: torch.device("cuda:0"))

    def apple(self) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: False)
        self.patch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return Gpu(monkeypatch)


def test_without_a_gpu_auto_is_the_cpu_in_float32() -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    assert (device_of(AUTO), dtype_of(AUTO)) == (torch.device("cpu"), torch.float32)


def test_apples_gpu_is_chosen_and_computes_in_float32(gpu: Gpu) -> None:
    gpu.apple()
    assert device_of(AUTO) == torch.device("mps")
    assert dtype_of(AUTO) == torch.float32
    assert not is_nvidia(device_of(AUTO))


def test_on_apples_gpu_tokens_are_sampled_on_the_cpu_because_it_has_no_float64() -> None:
    assert device_of_sampling(torch.device("mps")) == torch.device("cpu")
    assert device_of_sampling(torch.device("cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_computes_in_float16(gpu: Gpu, bfloat16: bool, dtype: Any) -> None:
    gpu.cuda(bfloat16=bfloat16)
    assert dtype_of(AUTO) == dtype
    assert half_dtype(torch.device("cuda:0")) == dtype
    assert dtype_of(TransformersSettings(dtype="bfloat16")) == torch.bfloat16
    assert dtype_of(TransformersSettings(dtype="float32")) == torch.float32


def test_amds_gpus_are_no_nvidia_gpus_and_get_no_kernel_of_theirs(gpu: Gpu) -> None:
    device = torch.device("cuda:0")

    class Values:
        """A tensor on a GPU, as far as the choice of the kernel looks at it."""

        def __init__(self) -> None:
            self.device, self.dtype, self.shape = device, torch.bfloat16, (1, 1, 64)

    gpu.cuda(bfloat16=True)
    assert is_nvidia(device)
    assert segments._has_kernel(Values(), segments.Scores(1.0))
    gpu.cuda(bfloat16=True, hip="6.4", capability=(9, 4))
    assert not is_nvidia(device)
    assert not segments._has_kernel(Values(), segments.Scores(1.0))
    assert dtype_of(AUTO) == torch.bfloat16


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_an_adapter_on_4_bits_is_in_float32_where_the_gpu_has_no_bfloat16(
    gpu: Gpu, bfloat16: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.cuda(bfloat16=bfloat16)
    monkeypatch.setattr("tutelage_transformers.training.adapters.device_of", selection.device_of)
    assert adapter_dtype(QLORA) == dtype
    compute = four_bit_config(QLORA).bnb_4bit_compute_dtype
    assert compute == (torch.bfloat16 if bfloat16 else torch.float16)


@pytest.mark.parametrize("kind", ["apple", "amd"])
def test_the_memory_of_a_gpu_that_is_not_nvidias_is_not_known(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps away an estimate for a GPU that takes the memory of the machine for that of the GPU."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    monkeypatch.setattr(capacity, "_AMD_DRIVER", tmp_path / "kfd")
    assert capacity.capacity_of(AUTO) is not None
    if kind == "apple":
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(platform, "machine", lambda: "arm64")
    else:
        (tmp_path / "kfd").touch()
    assert capacity.capacity_of(AUTO) is None
    assert capacity.capacity_of(TransformersSettings(device="cpu")) is not None


@pytest.mark.skipif(torch.version.hip is not None, reason="torch for AMD")
def test_kernels_need_an_nvidia_gpu_and_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "find_spec", lambda _: None)
    assert "another one" in (kernels_problem(torch.device("mps")) or "")
    assert kernels_problem(torch.device("cuda")) == "triton is not installed"


@pytest.fixture
def headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of Python's headers, on a machine with Triton."""
    monkeypatch.setattr(selection, "find_spec", lambda name: name)
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    for name in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "Python.h").touch()
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux" or torch.version.hip is not None, reason="on Linux, for NVIDIA GPUs")
def test_kernels_need_a_c_compiler(headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim images of Python have none: the first kernel would fail in the middle of a run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert "C compiler" in (kernels_problem(torch.device("cuda")) or "")
    for name in ("gcc", "clang"):
        (tmp_path / name).touch(0o755)
        assert kernels_problem(torch.device("cuda")) is None
        (tmp_path / name).unlink()
    monkeypatch.setenv("CC", "/opt/cc")
    assert kernels_problem(torch.device("cuda")) is None


@pytest.mark.skipif(sys.platform != "linux" or torch.version.hip is not None, reason="on Linux, for NVIDIA GPUs")
def test_kernels_need_the_headers_of_python(headers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux distributions have them in a package of their own."""
    monkeypatch.setenv("CC", "/opt/cc")
    (headers / "Python.h").unlink()
    assert "Python.h" in (kernels_problem(torch.device("cuda")) or "")
    monkeypatch.setenv("CPATH", "/opt/include")
    assert kernels_problem(torch.device("cuda")) is None


def test_adapters_have_kernels_in_half_precision_on_gpus_of_ampere_or_later(
    gpu: Gpu, headers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels do not fit into a processor of a T4."""
    monkeypatch.setenv("CC", "/opt/cc")
    device = torch.device("cuda:0")
    gpu.cuda(bfloat16=True)
    assert has_kernels(device, torch.bfloat16, rank=1) and has_kernels(device, torch.float16, rank=128)
    assert not has_kernels(device, torch.float32, rank=16)
    assert not has_kernels(device, torch.float16, rank=129)
    gpu.cuda(bfloat16=False)
    assert not has_kernels(device, torch.bfloat16, rank=16) and not has_kernels(device, torch.float16, rank=16)
