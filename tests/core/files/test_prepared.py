"""Prepared files are in tutelage's cache folder, and a folder that lacks some of them is not complete."""

from pathlib import Path

import pytest

from tutelage.files.digests import folder_digest
from tutelage.files.prepared import is_complete, list_files, prepared_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files and their list."""
    folder = tmp_path / "words"
    (folder / "more").mkdir(parents=True)
    (folder / "one.txt").write_text("one")
    (folder / "more/two.txt").write_text("two")
    list_files(folder)
    return folder


def test_the_folder_of_prepared_files_is_in_the_cache_folder_and_is_not_created(cache_path: Path) -> None:
    assert prepared_folder("words") == cache_path / "prepared" / "words"
    assert not (cache_path / "prepared").exists()


def test_a_folder_is_complete_if_it_has_every_file_of_its_list(folder: Path) -> None:
    assert is_complete(folder)
    (folder / "more/two.txt").unlink()
    assert not is_complete(folder)


def test_a_folder_with_a_file_that_was_cut_is_not_complete(folder: Path) -> None:
    (folder / "one.txt").write_text("on")
    assert not is_complete(folder)


def test_a_file_to_which_the_user_added_something_is_complete(folder: Path) -> None:
    (folder / "one.txt").write_text("one, and mine")
    (folder / "mine.txt").write_text("mine")
    assert is_complete(folder)


def test_a_folder_whose_list_was_cut_is_not_complete(folder: Path) -> None:
    (folder / ".prepared").write_text((folder / ".prepared").read_text()[:-3])
    assert not is_complete(folder)


def test_without_a_list_a_folder_of_an_earlier_version_is_complete_and_an_empty_or_missing_one_is_not(
    tmp_path: Path,
) -> None:
    assert not is_complete(tmp_path / "missing")
    assert not is_complete(tmp_path)
    (tmp_path / "one.txt").write_text("one")
    assert is_complete(tmp_path)


def test_the_list_does_not_change_the_digest_of_the_folder(folder: Path) -> None:
    """Runs with a model of an earlier version keep what they have trained."""
    listed = folder_digest(folder)
    (folder / ".prepared").unlink()
    assert folder_digest(folder) == listed
