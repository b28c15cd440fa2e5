"""Locks between processes. A lock belongs to an open file: it is free once its process has ended, however it ended.

The lock is that of the operating system (``flock``, or ``LockFileEx`` on Windows), taken by the library ``filelock``.
On a file system without such locks, a marker file beside the lock file names the process instead; filelock replaces a
marker whose process has ended.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of a platform or a file system without locks."""
_PATIENCE_SECONDS = 0.5
"""How long ``hold_lock`` retries: ``lock_holder`` of another process takes a free lock for a moment."""
_POLL_SECONDS = 0.05


class LockHeldError(Exception):
    """Another process holds the lock."""

    def __init__(self, process: int) -> None:
        super().__init__(f"held by process {process or 'unknown'}")
        self.process = process
        """Id of the process; 0 if it is unknown."""


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` during the block. The file is created if it does not exist, and is kept.

    Raises ``LockHeldError`` if another process holds the lock, and ``OSError`` if the file cannot be opened.
    """
    with path.open("a+b") as file:
        try:
            _take(file)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            file.truncate(0)
            file.write(f"\n{os.getpid()}\n".encode())  # on Windows, no process can read the locked first byte
            file.flush()
            yield
            return
    with _marker_held(path):
        yield


def lock_holder(path: Path) -> int | None:
    """Return the id of the process that holds the lock of ``path``: 0 if it is unknown, None if no process holds it.

    Writes nothing.
    """
    try:
        with _opened(path) as file:
            return None if _is_free(file) else _process_in(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return _marker_holder(path)


def wait_until_free(path: Path) -> None:
    """Return once no process holds the lock of ``path``."""
    while lock_holder(path) is not None:
        time.sleep(_POLL_SECONDS)


def _filelock() -> ModuleType:
    """Import filelock without its warning that the platform has no locks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import filelock

    return filelock


def _take(file: IO[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _filelock().lock_descriptor(file.fileno(), blocking=False):
        if time.monotonic() > deadline:
            raise LockHeldError(_process_in(file))
        time.sleep(_POLL_SECONDS)


def _opened(path: Path) -> IO[bytes]:
    """Open the file for reading, and for writing if that is allowed: a lock over NFS needs it."""
    try:
        return path.open("r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return path.open("rb")


def _is_free(file: IO[bytes]) -> bool:
    if not _filelock().lock_descriptor(file.fileno(), blocking=False):
        return False
    _filelock().unlock_descriptor(file.fileno())
    return True


def _process_in(file: IO[bytes]) -> int:
    """Return the process id in a lock file; 0 if there is none."""
    for start in (0, 1):
        try:
            file.seek(start)
            return int(file.read().strip() or 0)
        except ValueError:
            return 0
        except PermissionError:  # the first byte, on Windows
            continue
    return 0


def _marker(path: Path) -> str:
    return f"{path}.marker"


@contextmanager
def _marker_held(path: Path) -> Iterator[None]:
    lock = _filelock().SoftFileLock(_marker(path), timeout=_PATIENCE_SECONDS, poll_interval=_POLL_SECONDS)
    try:
        lock.acquire()
    except TimeoutError:
        raise LockHeldError(lock.pid or 0) from None
    try:
        yield
    finally:
        lock.release()


def _marker_holder(path: Path) -> int | None:
    if not Path(_marker(path)).exists():
        return None
    process = _filelock().SoftFileLock(_marker(path)).pid or 0
    return process if not process or _is_alive(process) else None


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there, os.kill ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
