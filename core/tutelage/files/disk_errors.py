"""Errors of writing a file as one error for the user: the path, the cause, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sysconfig
from pathlib import Path
from types import TracebackType

from tutelage.errors import InputError, StageError, TutelageError

_CORE = Path(__file__).parents[1]
_ADVICE = {
    errno.ENOSPC: "free space on this disk",
    errno.EDQUOT: "free space within your disk quota",
    errno.EFBIG: "this disk or your limits (`ulimit -f`) allow no larger file; use another disk",
    errno.EROFS: "the disk is mounted read-only; make it writable, or choose another folder",
    errno.EACCES: "make it writable for you, and close programs that have it open, or choose another folder",
    errno.EPERM: "make it writable for you, or choose another folder",
    errno.EIO: "the disk reports an error; check it, or choose another folder",
    errno.EMFILE: "too many files are open; raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine; close other programs",
    errno.ENAMETOOLONG: "choose a shorter path",
}
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""Errors that have no other meaning, for example for a connection."""
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY}
_CONTINUES = "finished work is kept, and the same command continues"


class writing:  # used as a function
    """A context manager that turns an ``OSError`` into one error: ``StageError``, or another class ``kind``.

    Inside the block, only ``path`` is written: an error of reading or of the network would be blamed on it.
    """

    def __init__(self, path: Path, kind: type[TutelageError] = StageError) -> None:
        self.path = path
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, OSError):
            text = disk_problem(self.path, error)
            raise self.kind(f"{text}; {_CONTINUES}" if issubclass(self.kind, StageError) else text) from error


def disk_problem(path: Path, error: OSError, failure: str = "cannot be written") -> str:
    """Return what hindered the writing of ``path``, and what to do about it; ``failure`` if it may be the reading."""
    if isinstance(error, shutil.Error):  # of several files that were copied
        first = error.args[0][0] if error.args and error.args[0] else ("", path, str(error))
        return f"{first[1]}: {failure} ({first[2]}); remove the cause"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _IN_THE_WAY:
        return f"{path}: {failure} ({reason}); {_in_the_way(path)}"
    return f"{path}: {failure} ({reason}); {_ADVICE.get(error.errno or 0, 'remove the cause')}"


def is_disk_problem(error: BaseException) -> bool:
    """Whether an error means that the disk does not take what is written: it is full, read-only or broken."""
    return isinstance(error, OSError) and error.errno in _ADVICE


def error_text(error: BaseException) -> str:
    """Return an error of a plugin as text, with the line of the plugin that it passed through.

    If it means that the disk does not take what is written, the text has what to do instead.
    """
    if isinstance(error, OSError) and is_disk_problem(error) and (error.filename or error.errno in _OF_DISKS):
        return disk_problem(Path(error.filename or "a file"), error, "cannot be used")
    return f"{type(error).__name__}: {error}{_line_of(error)}"


def _line_of(error: BaseException) -> str:
    """The innermost line outside of core and of installed libraries that an error passed through: ` (x.py, line 3)`."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_file() and not _is_of_library(path):
            place = f" ({path.name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _is_of_library(path: Path) -> bool:
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return is_installed or path.is_relative_to(_CORE) or path.is_relative_to(sysconfig.get_path("stdlib"))


def check_writable(path: Path) -> None:
    """Raise ``InputError`` if it is known that ``path`` cannot be created: a check before work begins.

    A file may be in place of one of its folders, or the folder that it would be created in may be read-only.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise InputError(f"{path}: cannot be written; {folder} is a file, and a folder is needed there")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written; the folder {folder} is read-only; make it writable")


def _in_the_way(path: Path) -> str:
    blocking = next((parent for parent in path.absolute().parents if parent.exists() and not parent.is_dir()), path)
    if blocking == path:
        return f"move away {'the folder' if path.is_dir() else 'the file'} that is in its place"
    return f"{blocking} is a file, and a folder is needed there; move it away, or choose another folder"
