"""The folder of the files that ``tutelage recipes prepare`` puts onto this machine, and whether it is complete."""

from __future__ import annotations

import json
import os
from itertools import chain, count
from pathlib import Path

from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import write_json
from tutelage.files.user_cache import cache_folder

_LIST = ".prepared"
"""Name of the list of the files. It is hidden, so that it does not count as content of a model's folder."""


def prepared_folder(name: str) -> Path:
    """Return the path of the folder ``name`` of prepared files, whether it exists or not."""
    return cache_folder() / "prepared" / name


def write_list(folder: Path) -> None:
    """Write the names and sizes (bytes) of all files in a folder into it, for ``fault_of``."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    write_json(folder / _LIST, {file.relative_to(folder).as_posix(): file.stat().st_size for file in files})


def fault_of(folder: Path) -> str | None:
    """Return why a folder of prepared files is not complete, in words that follow "its files are", or None if it is.

    A file that is shorter than in the list counts as cut. Longer files and further files are accepted. A folder without
    a list, of an earlier version or made by hand, is complete if it is not empty.
    """
    if not folder.is_dir():
        return "not on this machine"
    try:
        incomplete = _incomplete(folder)
    except ValueError:
        incomplete = f"{folder / _LIST} is damaged"
    except OSError as error:
        incomplete = f"{folder} cannot be read ({error.strerror})"
    return f"incomplete ({incomplete})" if incomplete else None


def _incomplete(folder: Path) -> str | None:
    if not (folder / _LIST).exists():
        return None if any(folder.iterdir()) else f"{folder} is empty"
    sizes = json.loads((folder / _LIST).read_bytes())
    if not (isinstance(sizes, dict) and sizes and all(isinstance(size, int) for size in sizes.values())):
        raise ValueError
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file():
            return f"{file} is missing"
        if (found := file.stat().st_size) < size:
            return f"{file} has {found:,} of {size:,} bytes"
    return None


def set_aside(folder: Path) -> Path | None:
    """Rename what is at the place of a folder of prepared files, and return its new path.

    None if nothing is there, or an empty folder, which is removed. It is not deleted: the user may have changed it.
    """
    if not os.path.lexists(folder):
        return None
    with writing(folder):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
            return None
        names = (f"{folder.name}.replaced{number}" for number in chain([""], (f"-{number}" for number in count(2))))
        free = next(path for path in map(folder.with_name, names) if not os.path.lexists(path))
        folder.rename(free)
    return free
