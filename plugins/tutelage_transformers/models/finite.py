"""Weights that are not finite: found before a checkpoint is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tutelage.errors import InputError, StageError

SHOWN = 20
"""Maximum number of weights that an error names."""


def weights_not_finite(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the names of the weights, of (name, tensor) pairs, that contain NaN or infinity.

    Reads the smallest and the largest value of each, which needs no memory, and waits for the device once.
    """
    import torch

    names: list[str] = []
    extremes: list[Any] = []
    for name, weight in named:
        values = weight.detach()
        values = values.to_local() if hasattr(values, "to_local") else values  # FSDP: the part of this process
        if values.is_floating_point() and values.numel():
            names.append(name)
            extremes.append(torch.stack(values.aminmax()).float())
    if not names:
        return []
    both = torch.stack([pair.to(extremes[0].device) for pair in extremes]).tolist()
    return [name for name, (low, high) in zip(names, both, strict=True) if not math.isfinite(low + 0 * high)]


def listed(names: Sequence[str]) -> str:
    """Return names as text, the first ``SHOWN`` of them."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_loaded(model: Any, name: str) -> None:
    """Raise ``InputError`` if a weight of the model ``name`` is not finite in the type that it is read in."""
    bad = weights_not_finite(model.named_parameters())
    if bad:
        dtype = str(dict(model.named_parameters())[bad[0]].dtype).removeprefix("torch.")
        wider = "" if dtype == "float32" else ", or set settings.dtype to float32 if the files are whole"
        raise InputError(
            f"model {name}: these weights are NaN or infinite in {dtype}: {listed(bad)}; use another copy of it{wider}"
        )


def check_trained(model: Any) -> None:
    """Raise ``StageError`` if a weight of a trained model, in the type in which it is stored, is not finite."""
    bad = weights_not_finite(model.named_parameters())
    if not bad:
        return
    dtype = str(dict(model.named_parameters())[bad[0]].dtype).removeprefix("torch.")
    wider = {
        "float16": ", set models.student.settings.dtype to bfloat16 or float32 (float16 has no number above 65504)",
        "bfloat16": ", set models.student.settings.dtype to float32",
    }.get(dtype, "")
    raise StageError(
        f"training ended, but the trained weights are not finite in {dtype}: {listed(bad)}. No checkpoint was written. "
        f"Lower the learning rate{wider}, and check the weights of the model that training started from"
    )
