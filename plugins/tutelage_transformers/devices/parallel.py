"""How many processes share the work, each on a device of its own, and what each of them does."""

from __future__ import annotations

from math import gcd
from typing import Any

from attrs import evolve

from tutelage.errors import InputError
from tutelage.objectives import Objective
from tutelage_transformers.devices.selection import device_of
from tutelage_transformers.settings import TransformersSettings


def device_names(settings: TransformersSettings) -> list[str]:
    """Return the devices to share work between, one per process: ``settings.processes`` of them, or all visible GPUs.

    Raises ``InputError`` if the settings ask for more GPUs than are visible, or for several processes on one named
    device.
    """
    import torch

    device = device_of(settings)
    if device.type != "cuda" or ":" in settings.device:
        _check_one_device(settings, device.type)
        return [str(device)] * (settings.processes or 1)
    visible = torch.cuda.device_count()
    if settings.processes is not None and settings.processes > visible:
        raise InputError(
            f"plugin transformers, settings.processes: {settings.processes} asked for, "
            f"but {visible} GPUs are visible here"
        )
    return [f"cuda:{number}" for number in range(settings.processes or visible)]


def _check_one_device(settings: TransformersSettings, kind: str) -> None:
    if settings.processes not in (None, 1) and kind != "cpu":
        raise InputError(
            f"plugin transformers, settings.processes: {settings.processes} processes cannot share {settings.device}; "
            "name the kind of device alone (cuda), or leave processes out"
        )


def training_processes(settings: TransformersSettings, batch_size: int) -> int:
    """Return the number of training processes; each has the same number of examples of a step.

    If the settings leave it open, that is the greatest number of GPUs that divides ``batch_size``. Raises
    ``InputError`` if the settings name a number that does not divide it.
    """
    return processes_among(len(device_names(settings)), settings, batch_size)


def processes_among(devices: int, settings: TransformersSettings, batch_size: int) -> int:
    """Return what ``training_processes`` returns if there are ``devices`` devices. Raises as it does."""
    if settings.processes is None:
        return max(number for number in range(1, devices + 1) if batch_size % number == 0)
    check_even_shares(devices, batch_size)
    return devices


def check_even_shares(processes: int, batch_size: int) -> None:
    """Raise ``InputError`` if the examples of a step cannot be shared equally."""
    if batch_size % processes:
        raise InputError(
            f"batch_size {batch_size}: {processes} processes cannot share it equally; "
            "choose a multiple, or other processes (settings.processes, or num_processes of the accelerate config)"
        )


def settings_of_one_process(settings: TransformersSettings, device: str, processes: int = 1) -> TransformersSettings:
    """Return the settings of one of ``processes`` processes, which works on ``device``."""
    return evolve(settings, device=device, processes=processes)


def share_of_objective(objective: Objective, settings: TransformersSettings) -> Objective:
    """Return the objective of one of ``settings.processes`` processes: with its share of each step's examples."""
    share = objective.batch_size // (settings.processes or 1)
    micro = objective.micro_batch_size
    return evolve(objective, batch_size=share, micro_batch_size=micro and gcd(share, micro))


def broadcast(value: int, device: Any) -> int:
    """Return the first process's ``value`` in every process of a training; ``device`` is the caller's own."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    shared = torch.tensor([value], device=device)
    distributed.broadcast(shared, src=0)
    return int(shared.item())
