"""Score files: rows are read, counted, or are an error with their location."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Rating
from tutelage.evaluation.calibration import JudgedItem
from tutelage.evaluation.significance import Observation
from tutelage.results.score_files import check_overlap, read_judged, read_observations, read_ratings

JUDGED = {"item_id": "p/0", "sample": 0, "score": 4.0}
PUBLISHED = {"prompt_id": "p", "completion": {"0": {"score": 4}, "1": {"score": -1}}}
PLAIN = {"id": "p/0", "score": 3}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(*rows: Any, name: str = "scores.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_samples_of_an_answer_are_averaged(write: Any) -> None:
    unparsed = {"item_id": "p/0", "sample": 2, "score": None, "outcome": "unparsed"}
    path = write(JUDGED, {**JUDGED, "sample": 1, "score": 5.0}, unparsed)
    assert read_ratings(path) == [Rating("p/0", "p", 4.5, parsed=2, asked=3)]


def test_published_rows_and_plain_rows_are_read(write: Any) -> None:
    assert read_ratings(write(PUBLISHED)) == [Rating("p/0", "p", 4.0), Rating("p/1", "p", None)]
    path = write(PLAIN, {"id": "whole", "score": None}, {"id": "x", "prompt_id": "q", "score": 1.5, "seed": 2})
    assert read_ratings(path) == [Rating("p/0", "p", 3.0), Rating("whole", "whole", None), Rating("x", "q", 1.5, 2)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty; at least one row is needed"),
        ([{"text": "x"}], "line 1: the row has text; expected judgements"),
        ([{"score": 4}], "line 1: the row has score; expected judgements"),
        ([PLAIN, JUDGED], "line 2: the row has item_id, sample, score; expected judgements"),
        ([JUDGED, JUDGED], "judgement p/0#0 occurs twice"),
        ([{**JUDGED, "score": float("nan")}], r"line 1: not a number of JSON \(use null for no value\): NaN"),
        ([{**JUDGED, "verdict": 1}], "line 1: not a Judgement"),
        ([{**PLAIN, "score": float("nan")}], r"line 1: not a number of JSON \(use null for no value\): NaN"),
        ([{**PLAIN, "score": "4"}], "line 1: `score` must be a finite number"),
        ([{**PLAIN, "id": 7}], "line 1: `id` must be a text"),
        ([{**PLAIN, "seed": "a"}], "line 1: `seed` must be a whole number"),
        (
            [{"prompt_id": "p", "completion": {"0": {"score": float("nan")}}}],
            r"line 1: not a number of JSON \(use null for no value\): NaN",
        ),
        ([{"prompt_id": "p", "completion": {"0": {}}}], "line 1: answer 0 has no numeric score"),
    ],
)
def test_rows_of_another_form_are_an_error_with_the_place(write: Any, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ratings(write(*rows))


def test_another_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes('{"id": "p/ä", "score": 1}\n'.encode("latin-1"))
    with pytest.raises(InputError, match="line 1: not UTF-8"):
        read_ratings(path)


def test_sets_without_an_item_in_common_are_an_error() -> None:
    check_overlap([Rating("a", "p", 1.0)], [Rating("a", "p", 2.0), Rating("b", "p", 2.0)])
    with pytest.raises(InputError, match="no item in common \\(judge: 'a', gold: 'b'\\)"):
        check_overlap([Rating("a", "p", 1.0)], [Rating("b", "p", 1.0)])


def test_a_judge_is_read_with_every_sample_its_gold_and_the_answers_length(write: Any) -> None:
    judge = write(JUDGED, {**JUDGED, "sample": 1, "score": 5.0})
    gold = write(PUBLISHED, name="gold.jsonl")
    answers = write({"prompt_id": "p", "index": 0, "text": "one two three"}, name="answers.jsonl")
    assert read_judged(judge, gold, answers) == [JudgedItem("p/0", "p", (4.0, 5.0), 3, 4.0)]
    answers = write({"prompt_id": "p", "completion": {"0": "one two"}}, name="published.jsonl")
    assert read_judged(judge, None, answers) == [JudgedItem("p/0", "p", (4.0, 5.0), 2)]


def test_the_values_of_a_model_are_scores_values_or_alpaca_evals_wins(write: Any, tmp_path: Path) -> None:
    path = write({"prompt_id": "p", "value": 0.5}, {"prompt_id": "q", "value": None}, name="mine.jsonl")
    found = read_observations(path)
    assert (found.name, found.observations, found.left_out) == ("mine", (Observation("p", 0.5),), 1)
    found = read_observations(write(PUBLISHED))
    assert (found.observations, found.left_out) == ((Observation("p", 4.0),), 1)
    texts = {key: key for key in ("instruction", "output_1", "output_2", "generator_1", "generator_2")}
    (tmp_path / "annotations.json").write_text(json.dumps([{**texts, "preference": 1.25}]))
    found = read_observations(tmp_path / "annotations.json")
    assert (found.name, [one.value for one in found.observations]) == ("generator_2", [0.25])
    with pytest.raises(InputError, match=r"line 1: not a number of JSON \(use null for no value\): Infinity"):
        read_observations(write({"prompt_id": "p", "value": float("inf")}))
