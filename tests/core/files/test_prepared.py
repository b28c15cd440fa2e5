"""Prepared files are in tutelage's cache folder, and a folder that lacks some of them is not complete."""

from pathlib import Path

import pytest

from tutelage.files.digests import folder_digest
from tutelage.files.prepared import fault_of, prepared_folder, set_aside, write_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files and their list."""
    folder = tmp_path / "words"
    (folder / "more").mkdir(parents=True)
    (folder / "one.txt").write_text("one")
    (folder / "more/two.txt").write_text("two")
    write_list(folder)
    return folder


def test_the_folder_of_prepared_files_is_in_the_cache_folder_and_is_not_created(cache_path: Path) -> None:
    assert prepared_folder("words") == cache_path / "prepared" / "words"
    assert not (cache_path / "prepared").exists()


def test_a_folder_is_complete_if_it_has_every_file_of_its_list(folder: Path) -> None:
    assert fault_of(folder) is None
    (folder / "more/two.txt").unlink()
    assert fault_of(folder) == f"incomplete ({folder / 'more/two.txt'} is missing)"


def test_a_file_that_was_cut_is_named_with_its_sizes(folder: Path) -> None:
    (folder / "one.txt").write_text("on")
    assert fault_of(folder) == f"incomplete ({folder / 'one.txt'} has 2 of 3 bytes)"


def test_a_file_to_which_the_user_added_something_is_complete(folder: Path) -> None:
    (folder / "one.txt").write_text("one, and mine")
    (folder / "mine.txt").write_text("mine")
    assert fault_of(folder) is None


@pytest.mark.parametrize(
    "text", ['{"one.txt": 3', "[]", '["one.txt"]', "null", "5", '"x"', "{}", '{"one.txt": "3"}', "\0"]
)
def test_a_damaged_list_is_a_fault_and_no_traceback(folder: Path, text: str) -> None:
    (folder / ".prepared").write_text(text)
    assert fault_of(folder) == f"incomplete ({folder / '.prepared'} is damaged)"


def test_without_a_list_a_folder_of_an_earlier_version_is_complete_and_an_empty_or_missing_one_is_not(
    tmp_path: Path,
) -> None:
    assert fault_of(tmp_path / "missing") == "not on this machine"
    assert fault_of(tmp_path) == f"incomplete ({tmp_path} is empty)"
    (tmp_path / "one.txt").write_text("one")
    assert fault_of(tmp_path) is None


def test_what_was_at_the_place_is_kept_under_another_name(folder: Path) -> None:
    """Deleting it in place could be interrupted, and then the rest of it counted as a folder of an earlier version."""
    link, dangling = folder.with_name("link"), folder.with_name("dangling")
    link.symlink_to(folder)
    dangling.symlink_to("nowhere")
    for path in (link, dangling):
        aside = set_aside(path)
        assert aside == path.with_name(f"{path.name}.replaced") and aside.is_symlink()
    for name in ("words.replaced", "words.replaced-2"):
        assert set_aside(folder) == folder.with_name(name)
        assert (folder.with_name(name) / "one.txt").read_text() == "one"
        folder.mkdir()
        (folder / "one.txt").write_text("one")


def test_nothing_is_kept_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert set_aside(tmp_path / "empty") is None
    assert set_aside(tmp_path / "empty") is None
    assert not list(tmp_path.iterdir())


def test_the_list_does_not_change_the_digest_of_the_folder(folder: Path) -> None:
    """Runs with a model of an earlier version keep what they have trained."""
    listed = folder_digest(folder)
    (folder / ".prepared").unlink()
    assert folder_digest(folder) == listed
