"""The check for ``tutelage doctor``: libraries, device, weights and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.errors import TutelageError
from tutelage.plugin_info import Finding
from tutelage_transformers.models import finding
from tutelage_transformers.models.counting import count_tokens
from tutelage_transformers.settings import DEFAULT_MODEL, TransformersSettings

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors")
_GIB = 2**30


def check(settings: TransformersSettings | None, name: str) -> Iterator[Finding]:
    """Check what generation and training need; asks the hub one free question if the weights are not here."""
    try:
        finding.require(*_PACKAGES)
    except TutelageError as error:
        yield Finding("libraries", False, str(error))
        return
    yield Finding("libraries", True, ", ".join(_PACKAGES))
    yield _device()
    weights = name or DEFAULT_MODEL
    try:
        here = finding.is_local(weights, bool(settings and settings.local_files_only))
    except TutelageError as error:
        yield Finding("model", False, str(error))
    else:
        yield Finding("model", True, f"{weights} is on this machine" if here else f"{weights} will be downloaded")
        yield from _tokenizer(settings, weights)


def _tokenizer(settings: TransformersSettings | None, name: str) -> Iterator[Finding]:
    """Report whether completions can end, and the model's context; nothing for a model that is not downloaded yet."""
    try:
        counts = count_tokens(settings, name, [], download=False)
    except TutelageError as error:
        yield Finding("tokenizer", False, str(error))
    else:
        if counts is not None:
            yield Finding("tokenizer", True, f"has an end token; the model sees {counts.context:,} tokens at once")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", True, f"none; {torch.get_num_threads()} processor threads, enough for small models")
    properties = torch.cuda.get_device_properties(0)
    memory = f"{properties.total_memory / _GIB:.0f} GiB"
    return Finding("GPU", True, f"{torch.cuda.device_count()} x {properties.name}, {memory} each")
