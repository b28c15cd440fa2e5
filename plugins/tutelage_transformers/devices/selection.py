"""The device, and the type of the weights on it."""

from __future__ import annotations

import os
from typing import Any

from tutelage.errors import InputError
from tutelage_transformers.settings import TransformersSettings


def device_of(settings: TransformersSettings) -> Any:
    """Return the torch device to use. Raises ``InputError`` for one that this machine does not have."""
    import torch

    if settings.device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"plugin transformers, settings.device: {settings.device!r} cannot be used here: {reason}"
        ) from error
    return device


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


def dtype_of(settings: TransformersSettings) -> Any:
    """Return the torch type of the weights for generation."""
    import torch

    if settings.dtype == "auto":
        return torch.float32 if device_of(settings).type == "cpu" else torch.bfloat16
    return getattr(torch, settings.dtype)


def empty_cache() -> None:
    """Return the memory that torch keeps for reuse to the GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
