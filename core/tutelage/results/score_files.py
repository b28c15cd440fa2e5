"""Files of scores, as a judge gave them or as the paper's code wrote them: read for agreement, calibration, difference.

Three kinds of JSON lines are read, one kind a file: our judgements (``item_id``, ``sample``, ``score``), rows of the
published code (``prompt_id`` and ``completion``), and plain rows (``id``, ``score`` and perhaps ``prompt_id``,
``seed``). The prompt of an answer is what its id says before the last "/", where a row does not name it.
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
    """A model's values from a file, and how many of its rows had none."""

    name: str
    observations: tuple[Observation, ...]
    left_out: int


def read_ratings(path: Path) -> list[Rating]:
    """The ratings of a score file, the samples of an answer averaged.

    Raises ``InputError`` with file and line where a row is of another kind than the first, a score is no finite number
    or an id is there twice.
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
            raise InputError(f"{path}: item {rating.id} has the score {rating.score}; no score is null")
    return found


def read_judged(path: Path, gold: Path | None = None, answers: Path | None = None) -> list[JudgedItem]:
    """A judge's opinions with every sample, the gold and the answers' lengths where they are given.

    ``answers`` holds our candidates, or the published code's (``prompt_id``, ``completion`` with texts). Without it,
    or for an answer that it does not hold, the length is 0. Raises ``InputError`` as ``read_ratings``.
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
    """One value a prompt or answer of one model, to be compared with another's.

    Read are the kinds of ``read_ratings``, rows with ``prompt_id`` and ``value``, and AlpacaEval's annotations (a JSON
    list), of which the value is the probability of a win. Rows without a value are left out and counted.
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
    """The prompt of an answer: its id before the last "/", or all of it."""
    return id.rpartition("/")[0] or id


def check_overlap(judge: Sequence[Rating], gold: Sequence[Rating]) -> None:
    """Raise ``InputError`` where two sets of ratings have no item in common."""
    if judge and gold and not {(one.seed, one.id) for one in judge} & {(one.seed, one.id) for one in gold}:
        raise InputError(
            f"judge and gold have no item in common (judge: {judge[0].id!r}, gold: {gold[0].id!r}); "
            "are they of the same answers?"
        )


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows = list(read_rows(path))
    if not rows:
        raise InputError(f"{path}: empty; at least one row is needed")
    return rows


def _kind(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """judgement, published or plain: what all rows of a file are."""
    first = ""
    for line, row in rows:
        kind = _kind_of(row)
        if not kind or (first and kind != first):
            raise InputError(f"{path}, line {line}: has {', '.join(sorted(row)) or 'no keys'}; {FORMATS}")
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
        raise InputError(f"{place}: `{key}` must be a finite number, or null where there is none, not {value!r}")
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
    """Length in words of each answer, by its id."""
    if not all("completion" in row for _, row in _rows(path)):
        return {candidate.id: len(candidate.text.split()) for candidate in read_records(path, Candidate)}
    words: dict[str, int] = {}
    for line, row in read_rows(path):
        place = f"{path}, line {line}"
        prompt_id, texts = text_in(row, "prompt_id", place), row["completion"]
        if not isinstance(texts, Mapping):
            raise InputError(f"{place}: expected, under completion, the answers by number")
        words |= {f"{prompt_id}/{number}": len(text_in(texts, number, place).split()) for number in texts}
    return words


def _is_json_list(path: Path) -> bool:
    place, _ = next(read_list(path))
    return ", row " in place
