"""The memory of the device that a model will use, without importing torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from tutelage_transformers.settings import TransformersSettings

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Limits of a container on its memory: of cgroup v2, and of v1."""
_AMD_DRIVER = Path("/dev/kfd")
_SMI_SECONDS = 10.0


@frozen
class Capacity:
    """The memory of one device."""

    total: int
    """Bytes."""
    name: str
    """The device in words."""
    is_gpu: bool
    devices: int = 1
    """Number of devices of this machine that the settings allow. ``CUDA_VISIBLE_DEVICES`` may exclude some of them."""


def capacity_of(settings: TransformersSettings) -> Capacity | None:
    """Return the memory of the device; None if it is not known, as for several machines, Apple's GPU or AMD's."""
    if settings.accelerate_config is not None:
        return None
    if settings.device == "cpu":
        return capacity_of_machine()
    if settings.device != "auto" and not settings.device.startswith("cuda"):
        return None
    gpus = _gpus()
    if gpus:
        return Capacity(min(gpus), "the GPU", True, 1 if ":" in settings.device else len(gpus))
    return capacity_of_machine() if settings.device == "auto" and not _has_other_gpu() else None


def _has_other_gpu() -> bool:
    """Whether there is a GPU whose memory is not known here: Apple's, or AMD's with its driver."""
    is_apple = (sys.platform, platform.machine()) == ("darwin", "arm64")
    return is_apple or _AMD_DRIVER.exists()


def capacity_of_machine() -> Capacity | None:
    """Return the memory of this machine, or a container's limit below it; None if the system does not say it."""
    with suppress(OSError, ValueError, AttributeError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        for limit in _CGROUP_LIMITS:
            with suppress(OSError, ValueError):  # the file of no limit has "max"
                total = min(total, int(limit.read_text(encoding="utf-8")))
        return Capacity(total, "this machine", False)
    return None


def _gpus() -> list[int]:
    """The bytes of each visible NVIDIA GPU; empty if there is none."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return []
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
        return [int(line) * 2**20 for line in done.stdout.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
