"""Wheels are fetched by pip, pinned by their content, and only read."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from wheels import use_only, write_wheel

from tutelage.errors import StageError
from tutelage.plugins.packages import fetch, find_wheel, unpack


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    use_only(folder, monkeypatch)
    return folder


def test_a_package_is_fetched_once_and_its_files_are_unpacked(index: Path, tmp_path: Path) -> None:
    package = write_wheel(index, "Some-data.part1", {"some_data/text.txt": "content"})
    wheel = fetch(package, tmp_path / "downloads")
    for file in index.iterdir():
        file.unlink()
    assert fetch(package, tmp_path / "downloads") == wheel  # pip would not find it any more
    unpack(wheel, tmp_path / "files")
    assert (tmp_path / "files/some_data/text.txt").read_text() == "content"


def test_pip_is_not_taken_from_the_current_folder(index: Path, tmp_path: Path, shadowing_folder: Path) -> None:
    (shadowing_folder / "json.py").rename(shadowing_folder / "pip.py")  # pip itself removes the folder from its path
    package = write_wheel(index, "some-data", {"a": "b"})
    assert find_wheel(package, fetch(package, tmp_path / "downloads").parent)


def test_a_package_with_other_content_is_refused(index: Path, tmp_path: Path) -> None:
    package = evolve(write_wheel(index, "some-data", {"a": "b"}), sha256="0" * 64)
    with pytest.raises(StageError, match=r"some-data==1\.0: it cannot be fetched .*(hash|HASH|Expected sha256)"):
        fetch(package, tmp_path / "downloads")
    assert find_wheel(package, tmp_path / "downloads") is None


def test_a_wheel_that_was_cut_by_a_kill_is_fetched_again(index: Path, tmp_path: Path) -> None:
    package = write_wheel(index, "some-data", {"a": "b" * 1000})
    wheel = fetch(package, tmp_path / "downloads")
    wheel.write_bytes(wheel.read_bytes()[:100])
    assert find_wheel(package, tmp_path / "downloads") is None
    assert find_wheel(package, fetch(package, tmp_path / "downloads").parent) == wheel


def test_a_package_that_is_not_on_the_index_names_the_remedy(index: Path, tmp_path: Path) -> None:
    package = write_wheel(tmp_path / "elsewhere", "some-data", {"a": "b"})
    index.mkdir()
    with pytest.raises(StageError, match=r"some-data==1\.0: .*No matching distribution .*PIP_FIND_LINKS"):
        fetch(package, tmp_path / "downloads")
