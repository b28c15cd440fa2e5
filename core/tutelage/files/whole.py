"""Files and folders that are written completely or not at all: written beside the path, made durable, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """The path beside ``path`` at which it is written until it is complete."""
    return path.with_name(f".{path.name}.tmp")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file path beside ``path``, make the file durable, and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    write(temporary)
    _make_durable(temporary)
    temporary.replace(path)


def fresh_folder(path: Path) -> Path:
    """An empty temporary folder beside ``path``, for ``commit_folder`` to rename when it is complete."""
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary


def commit_folder(temporary: Path, path: Path) -> None:
    """Make every file in a temporary folder durable and rename the folder to ``path``, which may be an empty folder."""
    for file in temporary.rglob("*"):
        if file.is_file():
            _make_durable(file)
    if path.is_dir():
        path.rmdir()
    temporary.rename(path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` at the end of the block; an exception leaves nothing behind."""
    temporary = fresh_folder(path)
    try:
        yield temporary
        commit_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_durable(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
