"""Models into memory and out of it: one at a time for generation, with errors that come at once."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.records import Model
from tutelage_phi2.chat import ensure_chat
from tutelage_phi2.settings import DEFAULT_MODEL, Phi2Settings

_HUB_TIMEOUT = 10.0
"""Seconds for the one question whether the hub has a model, before anything is downloaded from it."""


@frozen(eq=False)
class Loaded:
    """A model in memory with its tokenizer, ready to answer."""

    model: Any
    """A ``transformers.PreTrainedModel`` in evaluation mode."""
    tokenizer: Any
    """With a chat template and a pad token of its own."""


_loaded: dict[object, Loaded] = {}
"""The one model that is kept for generation, under what it was loaded from and how."""


def settings_of(context: Context) -> Phi2Settings:
    """The plugin's settings of this call, or the defaults."""
    return context.settings if isinstance(context.settings, Phi2Settings) else Phi2Settings()


def load(model: Model, settings: Phi2Settings) -> Loaded:
    """The model for generation, from memory where it was the last one asked for.

    Raises ``InputError`` where the weights are not there or not readable, ``PluginError`` where a package is missing.
    """
    key = (model.name, settings, _stamp(model))
    if key not in _loaded:
        release_all()
        _loaded[key] = read(model, settings)
    return _loaded[key]


def release(model: Model) -> None:
    """Free the memory of ``model``, if it is the one that is kept."""
    if any(key[0] == model.name for key in _loaded if isinstance(key, tuple)):
        release_all()


def release_all() -> None:
    """Free the memory of whatever is kept, on the GPU too."""
    if not _loaded:
        return
    import torch

    _loaded.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _stamp(model: Model) -> tuple[tuple[str, int, int], ...]:
    """What tells one state of a weights folder from another: a checkpoint may be written anew under the same path."""
    folder = Path(model.name)
    files = sorted(folder.glob("*.safetensors")) if model.name and folder.is_dir() else []
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def read(model: Model, settings: Phi2Settings, dtype: Any = None) -> Loaded:
    """Read weights and tokenizer into fresh objects. ``dtype`` overrides the settings' one.

    Raises as ``load`` does.
    """
    name = model.name or DEFAULT_MODEL
    local_only = _find(name, settings)
    device = device_of(settings)
    with plainly(name), quiet():
        import torch
        from transformers.models.auto.modeling_auto import AutoModelForCausalLM
        from transformers.models.auto.tokenization_auto import AutoTokenizer

        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local_only, trust_remote_code=False)
        ensure_chat(tokenizer)
        weights = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=dtype or dtype_of(settings),
            attn_implementation=_attention(settings, device),
            local_files_only=local_only,
            trust_remote_code=False,
            use_safetensors=True,
        )
    _fit(weights, tokenizer)
    return Loaded(weights.to(device).eval(), tokenizer)


def _fit(weights: Any, tokenizer: Any) -> None:
    """Make room for tokens that ``ensure_chat`` added, and tell the model its pad and end tokens.

    Phi-2 has 51,200 rows for 50,295 tokens, so there the pad token finds a spare row.
    """
    if len(tokenizer) > weights.get_input_embeddings().num_embeddings:
        weights.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for config in (weights.config, weights.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        if config.eos_token_id is None:
            config.eos_token_id = tokenizer.eos_token_id


def device_of(settings: Phi2Settings) -> Any:
    """The torch device to use. Raises ``InputError`` for one that this machine does not have."""
    import torch

    if settings.device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"plugin phi2, settings.device: {settings.device!r} cannot be used here: {reason}") from error
    return device


def dtype_of(settings: Phi2Settings) -> Any:
    """The torch type of the weights for generation."""
    import torch

    if settings.dtype == "auto":
        return torch.float32 if device_of(settings).type == "cpu" else torch.bfloat16
    return getattr(torch, settings.dtype)


def _attention(settings: Phi2Settings, device: Any) -> str:
    if settings.attention == "auto":
        return "eager" if device.type == "cpu" else "sdpa"
    return settings.attention


def _find(name: str, settings: Phi2Settings) -> bool:
    """True where ``name`` is on this machine, False where the hub has it. Raises ``InputError`` where neither is so.

    Left alone, transformers takes a missing folder for a hub name and retries for half a minute.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name}: the folder has no config.json, so it is no checkpoint; check the path")
        return True
    parts = name.split("/")
    if len(parts) > 2 or name.startswith((".", "~")) or "\\" in name or (len(parts) == 2 and Path(parts[0]).is_dir()):
        raise InputError(f"model {name}: there is no such folder; check the path (a hub name is OWNER/NAME)")
    if _is_cached(name):
        return True
    if settings.local_files_only:
        raise InputError(
            f"model {name}: neither a folder nor in the hub's cache on this machine, and local_files_only is set; "
            "download it first, or leave the setting out"
        )
    _ask_hub(name)
    return False


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise InputError(f"model {name}: neither a folder nor a name of the hub (OWNER/NAME); check it") from error
    if not isinstance(config, str):
        return False
    weights = [*Path(config).parent.glob("*.safetensors")]
    return bool(weights) and all(file.exists() for file in weights)


def _ask_hub(name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT)
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"model {name}: no folder of this name, and the hub refuses it: {reason}") from error
    except (OSError, OfflineModeIsEnabled) as error:
        raise InputError(
            f"model {name}: not on this machine, and the hub cannot be reached; connect, or name a folder with weights"
        ) from error


@contextmanager
def plainly(name: str) -> Iterator[None]:
    """Turn what transformers raises while it reads ``name`` into one error for the user."""
    try:
        yield
    except ImportError as error:
        raise PluginError(f"plugin phi2: {error}; install it with: pip install 'tutelage[phi2]'") from error
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"model {name}: it cannot be read: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars, chatter and deprecations off the terminal, and leave all as it was."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
