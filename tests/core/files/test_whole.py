"""Files and folders appear complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.errors import StageError
from tutelage.files.whole import temporary_beside, whole_folder, write_whole


def test_a_file_whose_writing_fails_keeps_its_earlier_content(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_whole(path, lambda temporary: temporary.write_text("whole"))

    def fail(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(StageError, match=r"figures.json: cannot be written \(disk full\)"):
        write_whole(path, fail)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "checkpoint") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_text("1")
        assert not (tmp_path / "checkpoint").exists()
    assert (tmp_path / "checkpoint" / "deep" / "weights").read_text() == "1"
    assert not temporary_beside(tmp_path / "checkpoint").exists()


def test_a_folder_whose_writing_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), whole_folder(tmp_path / "checkpoint") as folder:
        (folder / "weights").write_text("1")
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_an_empty_one_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "weights").write_text("1")
    with (
        pytest.raises(StageError, match=r"not empty.*move away the folder"),
        whole_folder(tmp_path / "empty") as folder,
    ):
        (folder / "weights").write_text("2")
    assert (tmp_path / "empty" / "weights").read_text() == "1"
