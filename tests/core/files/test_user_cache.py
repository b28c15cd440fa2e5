"""Results are computed once per equal inputs, and a damaged or missing cache only costs time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.files.user_cache import cache_folder, cached, read_cached, write_cached


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[int]:
        self.calls += 1
        return [self.calls, 7]


def test_a_result_is_computed_once_for_equal_inputs_and_again_for_others() -> None:
    compute = Counting()
    assert cached("test", {"rows": ["a"], "version": "1"}, compute) == [1, 7]
    assert cached("test", {"version": "1", "rows": ["a"]}, compute) == [1, 7]
    assert cached("test", {"rows": ["b"], "version": "1"}, compute) == [2, 7]
    assert cached("other", {"rows": ["a"], "version": "1"}, compute) == [3, 7]


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"other": 1}', "7"])
def test_a_damaged_file_is_computed_again_and_replaced(content: str) -> None:
    compute = Counting()
    cached("test", "inputs", compute)
    [file] = (cache_folder() / "test").iterdir()
    file.write_text(content)
    assert cached("test", "inputs", compute) == [2, 7]
    assert cached("test", "inputs", compute) == [2, 7]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file" / "cache"))
    compute = Counting()
    assert [cached("test", "inputs", compute) for _ in range(2)] == [[1, 7], [2, 7]]


def test_an_error_is_not_stored() -> None:
    def fail() -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            cached("test", "inputs", fail)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTELAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/tutelage")
    monkeypatch.setenv("TUTELAGE_CACHE", "/mine")
    assert cache_folder() == Path("/mine")


def test_a_value_can_be_read_and_replaced() -> None:
    assert read_cached("speeds", "train") is None
    write_cached("speeds", "train", 1.5)
    write_cached("speeds", "train", 2.5)
    assert read_cached("speeds", "train") == 2.5
    assert [path.suffix for path in (cache_folder() / "speeds").iterdir()] == [".json"]
