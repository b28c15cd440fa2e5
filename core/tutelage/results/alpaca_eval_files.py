"""Files of AlpacaEval: outputs and annotations, as a JSON list or JSON lines, and the tables of length control."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.evaluation.alpaca_eval import Annotation
from tutelage.evaluation.leaderboard import LeaderboardRow
from tutelage.evaluation.length_control import ANNOTATOR, LengthTables, Weights
from tutelage.files import jsonl

DIFFICULTY = "instruction_difficulty.csv"
WEIGHTS = "length_controlled_weights.csv"
LEADERBOARD = "leaderboard.csv"
_WEIGHT_COLUMNS = ("np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")

Place = tuple[str, Mapping[str, Any]]
"""The location of a row, for error messages, and the row."""


@frozen
class Output:
    """One answer of a model, in the form of the leaderboard."""

    instruction: str
    output: str
    generator: str
    dataset: str = ""


def read_outputs(path: Path) -> list[Output]:
    """Read a ``model_outputs.json``: rows with ``instruction``, ``output`` and ``generator``.

    Raises ``InputError`` with file and row if a row has another form, if an instruction occurs twice, or if there are
    several models.
    """
    outputs = [_output(place, row) for place, row in read_list(path)]
    _check_distinct(path, [output.instruction for output in outputs])
    if len(names := {output.generator for output in outputs}) > 1:
        raise InputError(f"{path}: answers of several models ({', '.join(sorted(names))}); use one file per model")
    return outputs


def read_annotations(path: Path) -> list[Annotation]:
    """Read an ``annotations.json``: rows with ``instruction``, both outputs and generators, and ``preference``.

    A preference of null or NaN is an unparsed reply. Raises ``InputError`` with file and row if a row has another form
    or if an instruction occurs twice. The range of the preferences is checked by ``evaluation.alpaca_eval``.
    """
    annotations = [_annotation(place, row) for place, row in read_list(path)]
    _check_distinct(path, [annotation.instruction for annotation in annotations])
    return annotations


def read_tables(folder: Path) -> LengthTables:
    """Read the two tables of length control from a folder, and the published results.

    The published results are those of the installed library alpaca_eval, and of ``leaderboard.csv`` in the folder if it
    exists. Raises ``InputError`` if a table does not exist or a file has other columns.
    """
    difficulty = [_number(row, "instruction_difficulty", place) for place, row in _read_csv(folder / DIFFICULTY)]
    weights = {
        str(row[""]): Weights(*(_number(row, column, place) for column in _WEIGHT_COLUMNS))
        for place, row in _read_csv(folder / WEIGHTS)
    }
    return LengthTables(difficulty, weights, _published_results(folder))


def write_list(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows atomically as a JSON list, which alpaca_eval can read."""
    jsonl.write_json(path, list(rows))


def read_list(path: Path) -> Iterator[Place]:
    """Yield the rows of a JSON list or of JSON lines, each with its location.

    A list may hold NaN, which the library writes for a missing preference. Raises ``InputError`` with the location if
    a row is not a JSON object, or if there are no rows.
    """
    found = False
    for place, row in jsonl.read_list(path, nan=True):
        found = True
        yield place, row
    if not found:
        raise InputError(f"{path}: empty; at least one row is needed")


def text_in(row: Mapping[str, Any], key: str, place: str) -> str:
    """Return the text of a row's key; it may be empty. Raises ``InputError`` if it is missing or not a text."""
    value = row.get(key)
    if not isinstance(value, str):
        raise InputError(f"{place}: `{key}` must be a text; the row has {', '.join(map(str, row)) or 'no keys'}")
    return value


def _output(place: str, row: Mapping[str, Any]) -> Output:
    return Output(
        text_in(row, "instruction", place),
        text_in(row, "output", place),
        text_in(row, "generator", place),
        str(row.get("dataset") or ""),
    )


def _annotation(place: str, row: Mapping[str, Any]) -> Annotation:
    return Annotation(
        instruction=text_in(row, "instruction", place),
        output_1=text_in(row, "output_1", place),
        output_2=text_in(row, "output_2", place),
        preference=_preference(place, row),
        generator_1=text_in(row, "generator_1", place),
        generator_2=text_in(row, "generator_2", place),
        annotator=str(row.get("annotator") or ""),
    )


def _preference(place: str, row: Mapping[str, Any]) -> float | None:
    if "preference" not in row:
        raise InputError(f"{place}: no `preference`; the row has {', '.join(map(str, row))}")
    value = row["preference"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{place}: the preference {value!r} is not a number")
    return float(value)


def _check_distinct(path: Path, instructions: Iterable[str]) -> None:
    seen: set[str] = set()
    for number, instruction in enumerate(instructions, 1):
        if instruction in seen:
            raise InputError(f"{path}, row {number}: the instruction {instruction[:60]!r} occurs twice")
        seen.add(instruction)


def _published_results(folder: Path) -> dict[str, LeaderboardRow]:
    library = find_spec("alpaca_eval")  # finds the folder of the library without importing it
    tables = [
        Path(place) / "leaderboards" / "data_AlpacaEval_2" / f"{ANNOTATOR}_{LEADERBOARD}"
        for place in (library.submodule_search_locations or () if library else ())
    ]
    return {
        str(row[""]): LeaderboardRow(
            _number(row, "win_rate", place),
            _number(row, "standard_error", place),
            int(_number(row, "n_total", place)),
        )
        for path in (*tables, folder / LEADERBOARD)
        if path.is_file()
        for place, row in _read_csv(path)
    }


def _read_csv(path: Path) -> Iterator[Place]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the folder given by --tables") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from error
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        yield f"{path}, line {number}", row


def _number(row: Mapping[str, Any], column: str, place: str) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{place}: no number in column {column!r}") from None
    if not math.isfinite(value):
        raise InputError(f"{place}: {value} in column {column!r}")
    return value
