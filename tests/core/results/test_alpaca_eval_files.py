"""Files of AlpacaEval: rows are read, or are an error with their location."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.evaluation.length_control import Weights
from tutelage.results.alpaca_eval_files import (
    DIFFICULTY,
    WEIGHTS,
    Output,
    read_annotations,
    read_outputs,
    read_tables,
    write_list,
)

OUTPUT = {"dataset": "koala", "instruction": "say hi", "output": "hi", "generator": "me"}
ANNOTATION = {
    "instruction": "say hi",
    "output_1": "hello",
    "generator_1": "base",
    "output_2": "hi",
    "generator_2": "me",
    "annotator": "judge",
    "preference": 1.25,
}
HEADER = ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.json"


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize("write", [json.dumps, lambda rows: "\n".join(map(json.dumps, rows))])
def test_a_json_list_and_json_lines_are_read_alike(path: Path, write: Any) -> None:
    path.write_text(write([OUTPUT, {**OUTPUT, "instruction": "say ho", "output": ""}]))
    assert read_outputs(path) == [Output("say hi", "hi", "me", "koala"), Output("say ho", "", "me", "koala")]


def test_what_is_written_is_read_again(path: Path) -> None:
    write_list(path, [OUTPUT])
    assert json.loads(path.read_text()) == [OUTPUT]
    assert read_outputs(path)[0].output == "hi"


def test_a_byte_order_mark_is_accepted(path: Path) -> None:
    path.write_text("\ufeff" + json.dumps([OUTPUT]), encoding="utf-8")
    assert read_outputs(path) == [Output("say hi", "hi", "me", "koala")]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_an_annotation_without_a_preference_is_an_unparsed_one(path: Path, missing: float | None) -> None:
    path.write_text(json.dumps([{**ANNOTATION, "preference": missing}]))
    (annotation,) = read_annotations(path)
    assert (annotation.preference, annotation.generator_2) == (None, "me")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; at least one row is needed"),
        (b"[]", "empty; at least one row is needed"),
        (b"[1]", "row 1: expected one JSON object, found a int"),
        (b"[{]", "line 1: not JSON"),
        (b'["\xff"]', r"not UTF-8 \(byte 2\); save the file as UTF-8"),
        (b"\xff\xfe[", "line 1: not UTF-8"),
        (json.dumps([OUTPUT, OUTPUT]).encode(), "row 2: the instruction 'say hi' occurs twice"),
        (json.dumps([without(OUTPUT, "output")]).encode(), "row 1: `output` must be a text; the row has dataset, inst"),
        (json.dumps([{**OUTPUT, "instruction": 3}]).encode(), "row 1: `instruction` must be a text"),
        (
            json.dumps([OUTPUT, {**OUTPUT, "instruction": "x", "generator": "you"}]).encode(),
            r"answers of several models \(me, you\); use one file per model",
        ),
    ],
)
def test_outputs_of_another_form_are_an_error_with_the_place(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_outputs(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without(ANNOTATION, "preference"), "row 1: no `preference`"),
        ({**ANNOTATION, "preference": "2"}, "the preference '2' is not a number"),
        ({**ANNOTATION, "preference": True}, "the preference True is not a number"),
        (without(ANNOTATION, "generator_1"), "`generator_1` must be a text"),
    ],
)
def test_annotations_of_another_form_are_an_error(path: Path, row: dict[str, Any], message: str) -> None:
    path.write_text(json.dumps([row]))
    with pytest.raises(InputError, match=message):
        read_annotations(path)


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_outputs(Path("nowhere.json"))


def test_the_tables_are_read(tmp_path: Path) -> None:
    (tmp_path / DIFFICULTY).write_text(",instruction_difficulty\n0,0.5\n1,-1\n")
    (tmp_path / WEIGHTS).write_text(f"\ufeff{HEADER}phi-2,1,2,3\n", encoding="utf-8")
    tables = read_tables(tmp_path)
    assert (tables.difficulty, tables.weights) == ([0.5, -1.0], {"phi-2": Weights(1.0, 2.0, 3.0)})


@pytest.mark.parametrize(
    ("difficulty", "weights", "message"),
    [
        (None, HEADER, "instruction_difficulty.csv: cannot be read"),
        (",instruction_difficulty\n0,hard\n", HEADER, "line 2: no number in column 'instruction_difficulty'"),
        (",instruction_difficulty\n0,nan\n", HEADER, "line 2: nan in column"),
        (",instruction_difficulty\n0,1\n", ",other\nphi-2,1\n", "no number in column 'np.tanh"),
    ],
)
def test_tables_of_another_form_are_an_error(
    tmp_path: Path, difficulty: str | None, weights: str, message: str
) -> None:
    if difficulty is not None:
        (tmp_path / DIFFICULTY).write_text(difficulty)
    (tmp_path / WEIGHTS).write_text(weights)
    with pytest.raises(InputError, match=message):
        read_tables(tmp_path)
