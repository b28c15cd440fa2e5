"""The device, and the type of the weights on it."""

from __future__ import annotations

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
