"""JSON that Python's parser accepts and that fails later is refused, with its line."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import InputError
from tutelage.files.json_text import DEEPEST, NotJson, parse
from tutelage.files.jsonl import dump, read_json, read_list, read_records, read_rows
from tutelage.records import Candidate, Judgement

HIGH, LOW = r"\ud83d", r"\ude00"
DEEP = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"

REFUSED = {
    "the first half of a pair": (
        f'{{"a": "hi {HIGH}?"}}',
        r"half of a surrogate pair.*: \\ud83d",
    ),
    "the second half of a pair": (
        f'{{"a": "{LOW}"}}',
        r"half of a surrogate pair.*: \\ude00",
    ),
    "a pair in the wrong order": (
        f'{{"a": "{LOW}{HIGH}"}}',
        r"half of a surrogate pair.*: \\ude00",
    ),
    "the first half twice": (
        f'{{"a": "{HIGH}{HIGH}{LOW}"}}',
        r"half of a surrogate pair.*: \\ud83d",
    ),
    "half of a pair in a key": (
        f'{{"{HIGH}": 1}}',
        r"half of a surrogate pair.*: \\ud83d",
    ),
    "half of a pair after a backslash": (
        f'{{"a": "\\\\{HIGH}"}}',
        r"half of a surrogate pair.*: \\ud83d",
    ),
    "an integer of 401 digits": (
        '{"a": 1' + "0" * 400 + "}",
        r"too large for a float: 10+\.\.\. \(401 characters\), column 7",
    ),
    "an integer of 5,000 digits": (
        '{"a": ' + "9" * 5000 + "}",
        r"too large for a float: 9+\.\.\. \(5,000 characters\), column 7",
    ),
    "a large negative integer": ('{"a": [-' + "9" * 5000 + "]}", r"a number too large for a float: -9+"),
    "a float with a large exponent": ('{"a": 1e999}', "a number too large for a float: 1e999, column 7"),
    "a float with a large exponent below zero": ('{"a": -1E+400}', r"a number too large for a float: -1E\+400"),
    "NaN": ('{"a": NaN}', r"not a number of JSON \(use null for no value\): NaN, column 7"),
    "Infinity": ('{"a": Infinity}', r"not a number of JSON .*: Infinity"),
    "-Infinity": ('{"a": [1, -Infinity]}', r"not a number of JSON .*: -Infinity"),
    "100,000 lists": (DEEP, "nested deeper than 100 levels"),
    "100,000 lists without their ends": ('{"a": ' + "[" * 100_000, "nested deeper than 100 levels"),
    "100,000 objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 100 levels"),
    "a key twice": ('{"a": 1, "b": {"a": 2}, "a": 3}', "a key is given twice: 'a', column"),
    "a key twice, once escaped": ('{"a": 1, "\\u0061": 3}', "a key is given twice: 'a', column"),
}
ACCEPTED = {
    "a whole pair": (f'{{"a": "{HIGH}{LOW}"}}', {"a": "\U0001f600"}),
    "an escaped backslash": (r'{"a": "\\ud83d"}', {"a": r"\ud83d"}),
    "another escape that begins alike": (r'{"a": "\ud7ff\uE000"}', {"a": "\ud7ff\ue000"}),
    "an integer of 300 digits": ('{"a": ' + "9" * 300 + "}", {"a": int("9" * 300)}),
    "a float with many digits": ('{"a": 0.' + "3" * 400 + "}", {"a": 1 / 3}),
    "a small float": ('{"a": 1e-400}', {"a": 0.0}),
    "words in a text": ('{"a": "NaN, Infinity, 1e999"}', {"a": "NaN, Infinity, 1e999"}),
    "many brackets in a text": ('{"a": "' + "[" * 1000 + '"}', {"a": "[" * 1000}),
    "many lists beside each other": ('{"a": [' + "[]," * 200 + "[]]}", {"a": [[]] * 201}),
    "the same key in two objects": ('{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_fails_later_is_refused_with_its_reason(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(NotJson, match=reason) as raised:
        parse(f'{{"first": [\n\n{text}]}}'.encode())
    assert raised.value.line == 3


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_value_that_only_looks_like_one_is_read(name: str) -> None:
    text, value = ACCEPTED[name]
    assert parse(text.encode()) == value


def test_nan_is_read_only_if_it_is_asked_for() -> None:
    assert math.isnan(parse(b"NaN", nan=True))
    with pytest.raises(NotJson, match=r"not a number of JSON \(use null for no value\): Infinity, column 7"):
        parse(b"[NaN, Infinity]", nan=True)


def test_the_position_is_that_of_the_value_and_not_of_its_like_in_a_text() -> None:
    with pytest.raises(NotJson, match=r"NaN, column 7$") as raised:
        parse(b'{"a": "NaN",\n "b": NaN}')
    assert raised.value.line == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert parse(dump(value).encode()) == value


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_nesting_is_limited_well_below_the_recursion_limit() -> None:
    dump(parse(nested(DEEPEST)))
    with pytest.raises(NotJson, match="nested deeper"):
        parse(nested(DEEPEST + 1))


READERS: dict[str, Callable[[Path], Any]] = {
    "rows": lambda path: list(read_rows(path)),
    "records": lambda path: list(read_records(path, Judgement)),
    "list": lambda path: list(read_list(path)),
    "file": read_json,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", REFUSED)
def test_every_reader_names_file_and_line(tmp_path: Path, reader: str, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{REFUSED[name][0]}\n")
    with pytest.raises(InputError, match=rf"rows\.jsonl, line 1: .*{REFUSED[name][1]}"):
        READERS[reader](path)


def test_a_fault_in_a_long_list_has_the_line_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1},\n' * 1 + '{"a": 1},\n' * 300 + f'{{"a": "{HIGH}"}}]')
    with pytest.raises(InputError, match=r"rows\.json, line 302: .*surrogate pair.*, column 8"):
        list(read_list(path))


def test_a_byte_order_mark_is_skipped_in_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = '{"prompt_id": "p", "index": 0, "text": "t"}'
    path.write_text(f"\ufeff{row}\n\n\ufeff{row}\n\ufeff", encoding="utf-8")  # as `cat` joins two files
    assert [number for number, _ in read_rows(path)] == [1, 3]
    assert list(read_records(path, Candidate)) == [Candidate("p", 0, "t")] * 2
    path.write_text(f"\ufeff [{row}]", encoding="utf-8")
    assert [place for place, _ in read_list(path)] == [f"{path}, row 1"]
    assert read_json(path)[0]["text"] == "t"


def test_another_encoding_is_named_with_the_line_of_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"a":\n"\xe9"}]')
    with pytest.raises(InputError, match=r"rows\.json, line 2: not UTF-8 \(byte 8\); save the file as UTF-8"):
        list(read_list(path))
