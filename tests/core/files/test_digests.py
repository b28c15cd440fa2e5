"""Digests: equal content has an equal digest; large files are read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.files import digests
from tutelage.files.digests import file_digest, folder_digest, rows_digest, sha256_of_each, value_digest
from tutelage.files.jsonl import write_rows
from tutelage.records import Prompt


def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files of more than 1000 bytes very large, and their pieces as long."""
    for name in ("_VERY_LARGE", "_PIECE"):
        monkeypatch.setattr(digests, name, 1000)


def test_a_value_has_the_digest_of_its_content_and_not_of_the_order_of_its_keys() -> None:
    assert value_digest({"a": 1, "b": [2, None]}) == value_digest({"b": [2, None], "a": 1})
    assert len({value_digest(value) for value in (1, "1", 1.5, None, [1], {"1": 1}, [[1]])}) == 7


def test_rows_have_the_digest_of_the_file_that_they_are_written_to(tmp_path: Path) -> None:
    rows = [Prompt("Grüße\n", "somewhere"), Prompt("b")]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert rows_digest(rows) == file_digest(tmp_path / "rows.jsonl") != rows_digest(rows[::-1])


def test_a_folder_has_the_digest_of_its_names_and_contents_wherever_it_is(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner/weights").write_bytes(b"\x00\x01")
        (tmp_path / name / ".cache").write_text(name)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    (tmp_path / "two/inner/weights").rename(tmp_path / "two/inner/other")
    assert folder_digest(tmp_path / "one") != folder_digest(tmp_path / "two")


def test_a_very_large_file_has_a_digest_of_its_pieces_that_every_byte_and_their_order_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pieces(monkeypatch)
    monkeypatch.setattr(digests, "_BUFFER", 300)
    content = b"".join(bytes([number]) * 700 for number in range(6))

    def digest_of(*files: bytes) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for number, file in enumerate(files):
            (folder / f"weights-{number}").write_bytes(file)
        return folder_digest(folder)

    assert digest_of(content) == digest_of(content)
    swapped = content[1000:2000] + content[:1000] + content[2000:]
    changed = [content[:number] + b"?" + content[number + 1 :] for number in (0, 299, 300, 999, 1000, 3999, 4199)]
    others = [content[:-1], content + b"?", content[:4000], swapped, *changed]
    assert len({digest_of(one) for one in (content, *others)}) == 1 + len(others)
    assert digest_of(content[:1000]) == digest_of(content[:1000]), "a file of one piece"
    assert digest_of(b"a", content) != digest_of(content, b"a")


def test_the_pieces_of_a_very_large_file_are_read_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of 5.6 GB of weights, read by one thread, delayed the first step by 6 s."""
    in_pieces(monkeypatch)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "weights").write_bytes(bytes(2000))
    both = Barrier(2, timeout=30)
    opened = Path.open

    def open_together(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == "weights":
            both.wait()  # an error if the pieces are read one after the other
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", open_together)
    assert len(folder_digest(tmp_path)) == digests.DIGITS


def test_very_large_files_are_read_in_parallel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, the files of a model in many files of little more than a piece were read by two threads."""
    in_pieces(monkeypatch)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"1" * 1001)
    both_are_read = Barrier(2)

    def wait_for_the_other(kind: str, inputs: object, compute: Callable[[], Any]) -> Any:
        both_are_read.wait(timeout=20)
        return compute()

    monkeypatch.setattr(digests, "cached", wait_for_the_other)
    assert folder_digest(tmp_path)


def test_links_have_the_digest_of_the_files_that_they_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the hub has links in its folders of models."""
    in_pieces(monkeypatch)
    for folder in ("files", "links", "blobs", "empty", "hidden/.git"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content in (("small", b"1"), ("large", b"2" * 2500)):
        (tmp_path / "files" / name).write_bytes(content)
        (tmp_path / "blobs" / name).write_bytes(content)
        try:
            (tmp_path / "links" / name).symlink_to(f"../blobs/{name}")
        except OSError:  # Windows, without the right to make links
            pytest.skip("links cannot be made")
    assert folder_digest(tmp_path / "links") == folder_digest(tmp_path / "files")
    assert folder_digest(tmp_path / "empty") == folder_digest(tmp_path / "hidden") == value_digest({})


@pytest.mark.parametrize("size", [10, 2500], ids=["small", "very large"])
def test_a_file_that_is_deleted_while_its_folder_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    in_pieces(monkeypatch)
    (tmp_path / "weights").write_bytes(b"1" * size)
    is_file = Path.is_file

    def delete(path: Path) -> bool:
        found = is_file(path)
        path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", delete)
    with pytest.raises(InputError, match="weights: cannot be read"):
        folder_digest(tmp_path)


def test_checksums_of_several_files_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    contents = [bytes([number]) * size for number, size in enumerate((3_000_000, 0, 10, 2_000_000, 1, 500_000))]
    files = [tmp_path / f"model-{number}.safetensors" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert sha256_of_each(files) == [hashlib.sha256(content).hexdigest() for content in contents]
    files[3].unlink()
    with pytest.raises(FileNotFoundError, match=r"model-3\.safetensors"):
        sha256_of_each(files)


def test_a_large_file_is_read_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Phi-2's weights have 5 GB; reading them took 15 s at each start."""
    read: list[Path] = []
    original = digests._read_digest
    monkeypatch.setattr(digests, "_LARGE", 4)

    def counted(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr(digests, "_read_digest", counted)
    file = tmp_path / "weights"
    file.write_bytes(b"12345")
    first = file_digest(file)
    assert file_digest(file) == first
    assert len(read) == 1
    file.write_bytes(b"123456")
    assert file_digest(file) != first
    assert len(read) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_LARGE", 4)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file"))
    (tmp_path / "weights").write_bytes(b"12345")
    assert file_digest(tmp_path / "weights") == file_digest(tmp_path / "weights")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: cannot be read"):
        file_digest(tmp_path / "nothing")
