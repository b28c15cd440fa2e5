"""The description of a run, ``run.json``: the versions that it was started with, and the plugin files that it loads."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import InputError
from tutelage.files.jsonl import read_json
from tutelage.planning.artifacts import DESCRIPTION
from tutelage.plugins.files import PluginFile, as_stored, stored_files
from tutelage.plugins.registry import Registry
from tutelage.runs.store import Store

SCHEMA = 1
_FILES = "plugin_files"
_LIBRARIES = ("torch", "transformers", "trl", "peft")


def describe_run(store: Store, registry: Registry) -> None:
    """Write the description when a run starts. Later only the plugin files are replaced, if others are loaded."""
    if not store.has(DESCRIPTION):
        store.write_json(DESCRIPTION, _description(registry))
    elif plugin_files(store.root) != list(registry.files):
        store.write_json(DESCRIPTION, {**_read(store.root), _FILES: as_stored(registry.files)})


def plugin_files(root: Path) -> list[PluginFile]:
    """Return the plugin files that the run in a folder was made with; empty if there is no run.

    Raises ``InputError`` if ``run.json`` is damaged.
    """
    found = _read(root).get(_FILES, {})
    try:
        return stored_files(found)
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{root / DESCRIPTION}: {_FILES} is damaged; remove the key, and add --plugin FILE") from None


def _read(root: Path) -> Mapping[str, Any]:
    path = root / DESCRIPTION
    found = read_json(path) if path.exists() else {}
    return found if isinstance(found, Mapping) else {}


def _description(registry: Registry) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "tutelage": _version("tutelage"),
        "python": platform.python_version(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "plugins": {status.name: status.version for status in registry.statuses() if status.status == "ok"},
        **({_FILES: as_stored(registry.files)} if registry.files else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
