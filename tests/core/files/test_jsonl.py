from pathlib import Path

import pytest

from tutelage.errors import InputError
from tutelage.files.jsonl import read_records, read_rows, write_rows
from tutelage.records import Candidate, Outcome


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    candidates = [Candidate("p", 0, "two\nlines \u2028 or three"), Candidate("p", 1, "", Outcome.REFUSED, "blocked")]
    path = tmp_path / "candidates.jsonl"
    assert write_rows(path, candidates) == 2
    assert list(read_records(path, Candidate)) == candidates


def test_a_line_that_is_not_json_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' * 6 + "{a: 7}\n" + '{"a": 8}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl, line 7: not JSON"):
        list(read_rows(path))


def test_a_line_that_is_not_an_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[1, 2]\n")
    with pytest.raises(InputError, match="line 1: expected one JSON object, found a list"):
        list(read_rows(path))


def test_text_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        list(read_rows(path))


def test_a_row_with_an_unknown_key_is_not_read_as_if_it_were_right(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    path.write_text('{"prompt_id": "p", "index": 0, "text": "t", "texd": "u"}\n')
    with pytest.raises(InputError, match=r"line 1: not a Candidate.*texd"):
        list(read_records(path, Candidate))


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_rows(path, [{"a": 1}, {"a": float("nan")}])
    assert not path.exists()
