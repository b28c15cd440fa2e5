"""Files and folders that are moved, or that appear at a second path without taking space twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tutelage.files.disk_errors import writing
from tutelage.files.whole import make_durable, temporary_beside


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, to a path on the same disk. Does nothing if the source does not exist."""
    if not source.exists():
        return
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            source.rename(target)
        else:
            source.replace(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file or folder appear at a second path: as links to the same files if possible, otherwise as a copy.

    The target is complete or does not exist. Does nothing if the source does not exist.
    """
    if not source.exists():
        return
    temporary = temporary_beside(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary, copy_function=_link_or_copy_file)
            temporary.rename(target)
        else:
            temporary.unlink(missing_ok=True)
            _link_or_copy_file(source, temporary)
            temporary.replace(target)


def size_of(folder: Path) -> int:
    """Return the number of bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def drop_empty_parents(path: Path, root: Path) -> None:
    """Delete the empty folders above a path that was deleted or moved, up to ``root``, which is kept."""
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def _link_or_copy_file(source: str | Path, target: str | Path) -> object:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
        make_durable(Path(target))
    return target
