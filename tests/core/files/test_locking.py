"""Locks between processes: who holds one is named, and a lock is free once its process has ended."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from known import known

from tutelage.files import locking
from tutelage.files.locking import LockHeldError, hold_lock, lock_holder, wait_until_free

HOLD = """
import sys
from pathlib import Path
if sys.argv[2:]:
    sys.modules["fcntl"] = None
from tutelage.files.locking import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["system", "marker"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lock of the operating system, and the marker of a file system that has no locks."""
    if request.param == "marker":

        def unsupported(fd: int, blocking: bool = True) -> bool:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(locking._filelock(), "lock_descriptor", unsupported)
    return str(request.param)


def holder_process(path: Path, kind: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLD, str(path), *(["hidden"] if kind == "marker" else [])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert known(process.stdout).readline() == b"held\n"
    return process


def test_the_process_that_holds_a_lock_is_named_and_a_killed_one_holds_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    assert list(tmp_path.iterdir()) == []  # asking writes nothing
    with holder_process(path, kind) as process:
        assert lock_holder(path) == process.pid
        with pytest.raises(LockHeldError, match=str(process.pid)), hold_lock(path):
            pass
        assert lock_holder(path) == process.pid
        process.kill()
        process.wait()
        assert lock_holder(path) is None
        with hold_lock(path):
            assert lock_holder(path) == os.getpid()
    wait_until_free(path)


def test_a_lock_that_is_released_can_be_held_again(tmp_path: Path, kind: str) -> None:
    for _ in range(3):
        with hold_lock(tmp_path / "lock"):
            assert lock_holder(tmp_path / "lock") == os.getpid()
        assert lock_holder(tmp_path / "lock") is None


def test_an_error_in_the_block_passes_and_frees_the_lock(tmp_path: Path, kind: str) -> None:
    with pytest.raises(OSError, match="mine"), hold_lock(tmp_path / "lock"):
        raise OSError(errno.ENOSYS, "mine")
    assert lock_holder(tmp_path / "lock") is None


def test_a_held_lock_without_a_readable_number_is_held_by_an_unknown_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_lock(path):
        path.write_text("no number")
        assert lock_holder(path) == 0
