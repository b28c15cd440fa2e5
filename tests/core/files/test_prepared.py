"""Prepared files are in tutelage's cache folder."""

from pathlib import Path

from tutelage.files.prepared import prepared_folder


def test_the_folder_of_prepared_files_is_in_the_cache_folder_and_is_not_created(cache_path: Path) -> None:
    assert prepared_folder("words") == cache_path / "prepared" / "words"
    assert not (cache_path / "prepared").exists()
