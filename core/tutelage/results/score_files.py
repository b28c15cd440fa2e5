"""Readers of score files, for agreement, calibration and differences of models.

A JSON-lines file has rows of one of three kinds: judgements of tutelage (``item_id``, ``sample``, ``score``), rows of
the paper's published code (``prompt_id`` and ``completion``), or plain rows (``id``, ``score``, optionally
``prompt_id`` and ``seed``). If a row has no prompt id, it is the part of the answer's id before the last "/".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.errors import InputError
from tutelage.evaluation.agreement import Rating, ratings
from tutelage.evaluation.alpaca_eval import model_gain
from tutelage.evaluation.calibration import JudgedItem
from tutelage.evaluation.published import published_ratings
from tutelage.evaluation.significance import Observation
from tutelage.files.jsonl import read_records, read_rows
from tutelage.preferences.judging import average
from tutelage.records import Candidate, Judgement, content_id
from tutelage.results.alpaca_eval_files import read_annotations, read_list, text_in

FORMATS = (
    "expected judgements (`item_id`, `sample`, `score`), rows of the published code (`prompt_id`, `completion`) or "
    "plain rows (`id`, `score`)"
)


@frozen
class ObservedModel:
    """The values of one model, from a file or from a run."""

    name: str
    """Name of the model."""
    observations: tuple[Observation, ...]
    left_out: int
    """Number of rows without a value."""


def read_ratings(path: Path) -> list[Rating]:
    """Read the ratings of a score file; the samples of an answer are averaged.

    Raises ``InputError`` with file and line if a row is of another kind than the first one, if a score is not a finite
    number, or if a sample occurs twice.
    """
    rows = _rows(path)
    kind = _kind(path, rows)
    if kind == "judgement":
        averages = average(read_records(path, Judgement))
        return ratings(averages, {id: prompt_of(id) for id in averages})
    if kind == "published":
        found = published_ratings(rows, str(path))
    else:
        found = [_rating(row, f"{path}, line {line}") for line, row in rows]
    for rating in found:
        if rating.score is not None and not math.isfinite(rating.score):
            raise InputError(f"{path}: item {rating.id} has the score {rating.score}; use null for no score")
    return found


def read_authors(path: Path) -> dict[str, str]:
    """Return the model that wrote each answer, by the id of the answer.

    The file has candidates of tutelage with ``model``, or rows with ``id`` and ``model``. Raises ``InputError`` with
    file and line if a row has no model, or if an answer has two.
    """
    authors: dict[str, str] = {}
    for line, row in _rows(path):
        place = f"{path}, line {line}"
        id = f"{text_in(row, 'prompt_id', place)}/{row['index']}" if "index" in row else text_in(row, "id", place)
        model = text_in(row, "model", place)
        if not model:
            raise InputError(f"{place}: the answer {id!r} has no `model`; name the model that wrote it")
        if authors.setdefault(id, model) != model:
            raise InputError(f"{place}: the answer {id!r} is of {model!r} and of {authors[id]!r}; give each an id")
    return authors


def read_judged(path: Path, gold: Path | None = None, answers: Path | None = None) -> list[JudgedItem]:
    """Read all samples of a judge's scores, with the gold scores and the lengths of the answers, if given.

    ``answers`` is a file with candidates of tutelage or of the published code (``prompt_id``, ``completion`` with
    texts). Without it, or for an answer that it does not contain, the length is 0. Raises ``InputError`` as
    ``read_ratings`` does.
    """
    known = {rating.id: rating for rating in read_ratings(path)}
    samples = _samples(path) if _kind(path, _rows(path)) == "judgement" else {}
    truth = {rating.id: rating.score for rating in read_ratings(gold)} if gold else {}
    words = _words(answers) if answers else {}
    return [
        JudgedItem(id, one.prompt_id, samples.get(id, (one.score,)), words.get(id, 0), truth.get(id), one.seed)
        for id, one in known.items()
    ]


def read_observations(path: Path) -> ObservedModel:
    """Read the values of one model, one per prompt or answer, for a comparison with another model.

    The file has rows of a kind of ``read_ratings``, rows with ``prompt_id`` and ``value``, or AlpacaEval's annotations
    (a JSON list), whose value is the probability of a win. Rows without a value are left out and counted. Raises
    ``InputError`` with file and line for other rows.
    """
    if _is_json_list(path):
        annotations = read_annotations(path)
        values = [(content_id(one.instruction), model_gain(one), 0) for one in annotations]
        name = annotations[0].generator_2
    elif "value" in _rows(path)[0][1]:
        values = [_value(row, f"{path}, line {line}") for line, row in _rows(path)]
        name = path.stem
    else:
        values = [(one.prompt_id, one.score, one.seed) for one in read_ratings(path)]
        name = path.stem
    found = tuple(Observation(prompt, value, seed) for prompt, value, seed in values if value is not None)
    return ObservedModel(name, found, len(values) - len(found))


def prompt_of(id: str) -> str:
    """Return the prompt id of an answer's id: the part before the last "/", or the whole id if it has none."""
    return id.rpartition("/")[0] or id


def check_overlap(judge: Sequence[Rating], gold: Sequence[Rating]) -> None:
    """Raise ``InputError`` if two sets of ratings have no item in common."""
    if judge and gold and not {(one.seed, one.id) for one in judge} & {(one.seed, one.id) for one in gold}:
        raise InputError(
            f"judge and gold have no item in common (judge: {judge[0].id!r}, gold: {gold[0].id!r}); "
            "give scores of the same answers"
        )


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = list(read_rows(path))
    if not rows:
        raise InputError(f"{path}: empty; at least one row is needed")
    return rows


def _kind(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """The kind of all rows of a file: judgement, published or plain."""
    first = ""
    for line, row in rows:
        kind = _kind_of(row)
        if not kind or (first and kind != first):
            raise InputError(f"{path}, line {line}: the row has {', '.join(sorted(row)) or 'no keys'}; {FORMATS}")
        first = kind
    return first


def _kind_of(row: Mapping[str, Any]) -> str:
    if "completion" in row:
        return "published"
    if "item_id" in row:
        return "judgement"
    return "plain" if row.keys() >= {"id", "score"} else ""


def _rating(row: Mapping[str, Any], place: str) -> Rating:
    id = text_in(row, "id", place)
    prompt_id = text_in(row, "prompt_id", place) if "prompt_id" in row else prompt_of(id)
    return Rating(id, prompt_id, _finite(row, "score", place), _seed(row, place))


def _value(row: Mapping[str, Any], place: str) -> tuple[str, float | None, int]:
    return text_in(row, "prompt_id", place), _finite(row, "value", place), _seed(row, place)


def _finite(row: Mapping[str, Any], key: str, place: str) -> float | None:
    value = row.get(key)
    if value is None and key in row:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{place}: `{key}` must be a finite number or null, not {value!r}")
    return float(value)


def _seed(row: Mapping[str, Any], place: str) -> int:
    seed = row.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputError(f"{place}: `seed` must be a whole number, not {seed!r}")
    return seed


def _samples(path: Path) -> dict[str, tuple[float | None, ...]]:
    found: dict[str, dict[int, float | None]] = {}
    for judgement in read_records(path, Judgement):
        found.setdefault(judgement.item_id, {})[judgement.sample] = judgement.score
    return {id: tuple(score for _, score in sorted(scores.items())) for id, scores in found.items()}


def _words(path: Path) -> dict[str, int]:
    """Length in words of each answer, by the answer's id."""
    if not all("completion" in row for _, row in _rows(path)):
        return {candidate.id: len(candidate.text.split()) for candidate in read_records(path, Candidate)}
    words: dict[str, int] = {}
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        prompt_id, texts = text_in(row, "prompt_id", place), row["completion"]
        if not isinstance(texts, Mapping):
            raise InputError(f"{place}: expected the answers by number under the key completion")
        words |= {f"{prompt_id}/{number}": len(text_in(texts, number, place).split()) for number in texts}
    return words


def _is_json_list(path: Path) -> bool:
    place, _ = next(read_list(path))
    return ", row " in place
