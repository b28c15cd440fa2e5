"""Errors of the disk are one message with the path, the cause and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tutelage.errors import InputError, StageError
from tutelage.files.disk_errors import check_writable, disk_problem, error_text, is_disk_problem, writing
from tutelage.files.jsonl import write_json, write_rows


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space on this disk"),
        (errno.EDQUOT, "disk quota"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "make it writable"),
        (errno.EIO, "check it"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_the_message_names_path_cause_and_remedy(tmp_path: Path, number: int, advice: str) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(StageError) as raised, writing(path):
        raise OSError(number, os.strerror(number))
    message = str(raised.value)
    assert message.startswith(f"{path}: cannot be written ({os.strerror(number)}); ")
    assert advice in message
    assert message.endswith("; finished work is kept, and the same command continues")
    assert is_disk_problem(OSError(number, ""))


def test_before_the_first_step_it_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"disk$"), writing(tmp_path, InputError):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError("x")


@pytest.mark.parametrize("deep", ["rows.jsonl", "deeper/rows.jsonl"])
def test_a_file_where_a_folder_is_wanted_is_named(tmp_path: Path, deep: str) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StageError, match=f"{tmp_path}/out is a file, and a folder is needed there"):
        write_rows(tmp_path / "out" / deep, [{}])
    with pytest.raises(InputError, match=f"{tmp_path}/out is a file, and a folder is needed there"):
        check_writable(tmp_path / "out" / deep)
    check_writable(tmp_path / "new" / deep)
    assert not (tmp_path / "new").exists()


def test_a_folder_where_a_file_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.json" / "deep").mkdir(parents=True)
    with pytest.raises(StageError, match=r"rows.json: cannot be written .*; move away the folder"):
        write_json(tmp_path / "rows.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.json"]


def test_a_read_only_folder_is_known_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(InputError, match=f"the folder {tmp_path} is read-only"):
        check_writable(tmp_path / "new" / "rows.jsonl")


def test_an_error_of_the_rows_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def rows() -> object:
        yield {}
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    with pytest.raises(ConnectionResetError):
        write_rows(tmp_path / "rows.jsonl", rows())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_incomplete_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".rows.jsonl.tmp").symlink_to("/dev/full")
    with pytest.raises(StageError, match=r"rows.jsonl: cannot be written \(No space left on device\)"):
        write_rows(tmp_path / "rows.jsonl", [{"text": "x" * 100_000}])
    assert list(tmp_path.iterdir()) == []


def test_the_text_of_an_error_in_a_plugin() -> None:
    assert error_text(OSError(errno.ENOSPC, "No space left on device")) == (
        "a file: cannot be used (No space left on device); free space on this disk"
    )
    assert error_text(PermissionError(errno.EACCES, "denied", "out/w")).startswith("out/w: cannot be used (denied); ")
    assert error_text(PermissionError(errno.EACCES, "denied")) == "PermissionError: [Errno 13] denied"  # a connection
    assert error_text(KeyError("x")) == "KeyError: 'x'"


def test_of_several_files_that_cannot_be_copied_the_first_is_named(tmp_path: Path) -> None:
    error = shutil.Error([("from", "to/a", "[Errno 28] No space left on device"), ("from", "to/b", "the same")])
    assert disk_problem(tmp_path, error).startswith("to/a: cannot be written ([Errno 28] No space left on device)")
