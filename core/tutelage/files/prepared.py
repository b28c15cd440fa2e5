"""The folder of the files that ``tutelage recipes prepare`` puts onto this machine, and whether it is complete."""

from __future__ import annotations

import json
from pathlib import Path

from tutelage.files.disk_errors import writing
from tutelage.files.user_cache import cache_folder

_LIST = ".prepared"
"""Name of the list of the files. It is hidden, so that it does not count as content of a model's folder."""


def prepared_folder(name: str) -> Path:
    """Return the path of the folder ``name`` of prepared files, whether it exists or not."""
    return cache_folder() / "prepared" / name


def list_files(folder: Path) -> None:
    """Write the names and sizes (bytes) of all files in a folder into it, for ``is_complete``."""
    with writing(folder):
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
        (folder / _LIST).write_text(json.dumps(sizes, indent=2), encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Return whether a folder has every file of its list, and none of them is shorter: a copy may be cut.

    A folder without a list, of an earlier version or made by hand, only has to contain something.
    """
    try:
        if not (folder / _LIST).exists():
            return any(folder.iterdir())
        sizes = json.loads((folder / _LIST).read_bytes())
        return all((folder / name).stat().st_size >= size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
