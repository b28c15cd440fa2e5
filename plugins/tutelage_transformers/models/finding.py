"""Where a model's weights are: in a folder, in the hub's cache, or on the hub; one clear error at once if nowhere."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.errors import InputError, PluginError
from tutelage.installation import install_command

_HUB_TIMEOUT = 10.0
"""Seconds for the one request that asks the hub for a model, before anything is downloaded."""


def is_local(name: str, local_files_only: bool) -> bool:
    """Return True if ``name`` is on this machine and False if the hub has it. Raises ``InputError`` otherwise.

    Without this check transformers takes a missing folder for a hub name and retries for half a minute.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name}: the folder has no config.json, so it is no checkpoint; check the path")
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"model {name}: its config.json cannot be read ({error}); copy it again") from error
        if not isinstance(config, dict):
            raise InputError(f"model {name}: its config.json is no JSON object; copy it again")
        return True
    if can_only_be_a_path(name):
        raise InputError(f"model {name}: there is no such folder; check the path (a hub name is OWNER/NAME)")
    if is_cached(name):
        return True
    if local_files_only:
        raise InputError(
            f"model {name}: neither a folder nor in the hub's cache on this machine, and local_files_only is set; "
            "download it first, or leave the setting out"
        )
    _ask_hub(name)
    return False


def can_only_be_a_path(name: str) -> bool:
    """Return whether ``name`` cannot be a hub name: that is OWNER/NAME, where OWNER is no folder here."""
    parts = name.split("/")
    return (
        len(parts) > 2
        or name.startswith((".", "~", "/"))
        or "\\" in name
        or (len(parts) == 2 and Path(parts[0]).is_dir())
    )


def is_cached(name: str) -> bool:
    """Return whether the hub's cache on this machine has the whole model. Raises ``InputError`` for an invalid name."""
    return _cached_folder(name) is not None


def folder_of(name: str) -> Path | None:
    """Return the folder with the files of a model, its own or that of the hub's cache; None if they are not here.

    Raises ``InputError`` for an invalid name.
    """
    return Path(name) if Path(name).is_dir() else None if can_only_be_a_path(name) else _cached_folder(name)


def _cached_folder(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise InputError(f"model {name}: neither a folder nor a name of the hub (OWNER/NAME); check it") from error
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    weights = [*folder.glob("*.safetensors")]
    return folder if weights and all(file.exists() for file in weights) else None


def _ask_hub(name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(name, timeout=_HUB_TIMEOUT)
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"model {name}: no folder of this name, and the hub refuses it: {reason}") from error
    except Exception as error:  # the class of a connection error depends on the hub library's own dependencies
        raise InputError(
            f"model {name}: not on this machine, and the hub cannot be reached ({type(error).__name__}); "
            "connect, or name a folder with weights"
        ) from error
    files = [file.rfilename for file in info.siblings or ()]
    if files and not any(file.endswith(".safetensors") for file in files):
        raise InputError(f"model {name}: the hub has it without safetensors; use a model, or a revision, that has them")


def require(*packages: str, extra: str = "transformers") -> None:
    """Raise ``PluginError`` if one of these packages is not installed. ``extra`` of tutelage has them."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise PluginError(f"plugin transformers: {', '.join(missing)} not installed; run: {install_command(extra)}")


@contextmanager
def explain_read_errors(name: str) -> Iterator[None]:
    """Turn the errors that transformers raises while it reads ``name`` into one ``InputError``."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError, StrictDataclassError) as error:
        first, *more = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
        raise InputError(f"model {name}: it cannot be read: {reason}") from error
