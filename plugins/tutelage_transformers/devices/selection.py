"""The device, and the type of the weights on it."""

from __future__ import annotations

import os
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from tutelage.errors import InputError
from tutelage_transformers.settings import TransformersSettings


def device_of(settings: TransformersSettings) -> Any:
    """Return the torch device to use. Raises ``InputError`` for one that this machine does not have."""
    import torch

    if settings.device == "auto":
        return torch.device(_best_device())
    try:
        device = torch.device(settings.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"plugin transformers, settings.device: {settings.device!r} cannot be used here: {reason}"
        ) from error
    return device


def _best_device() -> str:
    """Return the first GPU of NVIDIA or AMD, else Apple's GPU, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of_rank(settings: TransformersSettings) -> str:
    """Return the device of this process, one of several that train together: the GPU of its ``LOCAL_RANK``.

    It becomes the default GPU of this process, for code that names none. Each process of accelerate's launcher sees
    all GPUs, so ``auto`` and ``cuda`` would be the first GPU in each of them.
    """
    import torch

    kind = str(device_of(settings).type)
    if kind != "cuda":
        return kind
    device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    torch.cuda.set_device(device)
    return device


def is_nvidia(device: Any) -> bool:
    """Return whether a torch device is an NVIDIA GPU. torch calls AMD's GPUs ``cuda``, too."""
    import torch

    return bool(device.type == "cuda" and torch.version.hip is None)


def kernels_problem(device: Any) -> str | None:
    """Return why the plugin's Triton kernels cannot run on a torch device, or None if they can.

    Triton compiles each kernel, and a small extension of Python in C that starts it, when it is first used.
    """
    if not is_nvidia(device):
        return f"its kernels are for NVIDIA GPUs, and {device} is another one"
    if find_spec("triton") is None:
        return "triton is not installed"
    if sys.platform != "linux":  # Triton for Windows has a compiler of its own
        return None
    if not (os.environ.get("CC") or which("gcc") or which("clang")):
        return "triton needs a C compiler, and neither gcc nor clang is installed"
    elsewhere = any(os.environ.get(name) for name in ("CPATH", "C_INCLUDE_PATH"))
    if not (elsewhere or Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").is_file()):
        return "triton needs Python.h, which is not installed (a package such as python3-dev has it)"
    return None


def dtype_of(settings: TransformersSettings) -> Any:
    """Return the torch type of the weights for generation.

    ``auto`` is bfloat16 on a GPU that computes in it, and float16 on an older one (before NVIDIA's Ampere). On Apple's
    GPU it is float32: bfloat16 needs macOS 14 and is emulated on the first chips, and float16 overflows in training.
    """
    import torch

    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    device = device_of(settings)
    if device.type != "cuda":
        return torch.float32
    return half_dtype(device)


def half_dtype(device: Any) -> Any:
    """Return the torch type of 16 bits in which a device computes: float16 on a GPU without bfloat16."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16


def empty_cache() -> None:
    """Return the memory that torch keeps for reuse to the GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
