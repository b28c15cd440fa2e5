"""The folder of the files that ``tutelage recipes prepare`` puts onto this machine."""

from __future__ import annotations

from pathlib import Path

from tutelage.files.user_cache import cache_folder


def prepared_folder(name: str) -> Path:
    """Return the path of the folder ``name`` of prepared files. It exists only if its files are complete."""
    return cache_folder() / "prepared" / name
