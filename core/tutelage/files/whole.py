"""Files and folders that are written completely or not at all: written beside the path, made durable, renamed.

Errors of the disk are raised as ``StageError``, see ``disk_errors``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tutelage.files.disk_errors import writing

_MAX_THREADS = 8


def temporary_beside(path: Path) -> Path:
    """The path beside ``path`` at which it is written until it is complete."""
    return path.with_name(f".{path.name}.tmp")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file path beside ``path``, make the file durable, and rename it to ``path``.

    ``write`` only writes: its ``OSError`` is an error of this file.
    """
    with whole_file(path) as temporary, writing(path):
        write(temporary)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file path that becomes ``path`` at the end of the block; an exception leaves nothing behind."""
    temporary = temporary_beside(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with writing(path):
            make_durable(temporary)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def fresh_folder(path: Path) -> Path:
    """An empty temporary folder beside ``path``, for ``commit_folder`` to rename when it is complete."""
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    with writing(path):
        temporary.mkdir(parents=True)
    return temporary


def commit_folder(temporary: Path, path: Path) -> None:
    """Make every file in a temporary folder durable and rename the folder to ``path``, which may be an empty folder."""
    with writing(path):
        make_folder_durable(temporary)
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


def make_folder_durable(folder: Path) -> None:
    """Wait until all files in a folder are on the disk. They are written in parallel. Raises ``OSError``."""
    with ThreadPoolExecutor(_MAX_THREADS) as threads:
        list(threads.map(make_durable, (file for file in folder.rglob("*") if file.is_file())))


def make_durable(path: Path) -> None:
    """Wait until a file is on the disk."""
    with _opened(path) as file:
        os.fsync(file.fileno())


def _opened(path: Path) -> IO[bytes]:
    """Open a file for ``fsync``: on Windows for writing, unless it is read-only."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")
