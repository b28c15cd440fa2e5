"""Files that are moved or that appear at a second path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tutelage.files.moving import drop_empty_parents, link_or_copy, move, size_of


def folder_with_a_file(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"12345")
    return path


def test_a_link_takes_no_space_and_survives_the_original(tmp_path: Path) -> None:
    source = folder_with_a_file(tmp_path / "source")
    link_or_copy(source, tmp_path / "deep/target")
    assert (source / "weights").stat().st_ino == (tmp_path / "deep/target/weights").stat().st_ino
    (source / "weights").unlink()
    assert (tmp_path / "deep/target/weights").read_bytes() == b"12345"


def test_without_links_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some network file systems have no links; another disk cannot be linked to."""

    def no_links(*paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    source = folder_with_a_file(tmp_path / "source")
    link_or_copy(source, tmp_path / "target")
    link_or_copy(source / "weights", tmp_path / "file")
    assert (tmp_path / "target/weights").read_bytes() == (tmp_path / "file").read_bytes() == b"12345"
    assert (source / "weights").stat().st_ino != (tmp_path / "file").stat().st_ino


def test_what_does_not_exist_is_neither_moved_nor_linked(tmp_path: Path) -> None:
    move(tmp_path / "nothing", tmp_path / "a/target")
    link_or_copy(tmp_path / "nothing", tmp_path / "a/target")
    assert not (tmp_path / "a").exists()


def test_a_move_replaces_a_file_and_makes_folders(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    move(tmp_path / "new", tmp_path / "old")
    move(folder_with_a_file(tmp_path / "source"), tmp_path / "deep/target")
    assert (tmp_path / "old").read_text() == "new"
    assert size_of(tmp_path / "deep") == 5


def test_only_empty_folders_are_dropped_and_never_the_root(tmp_path: Path) -> None:
    (tmp_path / "root/kept/a/b").mkdir(parents=True)
    (tmp_path / "root/kept/file").write_text("")
    drop_empty_parents(tmp_path / "root/kept/a/b/gone", tmp_path / "root")
    assert not (tmp_path / "root/kept/a").exists()
    assert (tmp_path / "root/kept").exists()
    (tmp_path / "root/kept/file").unlink()
    drop_empty_parents(tmp_path / "root/kept/file", tmp_path / "root")
    assert list(tmp_path.rglob("*")) == [tmp_path / "root"]
