"""Score files in the format of the paper's published code: one row per prompt, with its answers by number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tutelage.errors import InputError
from tutelage.evaluation.agreement import UNPARSED_AS_PUBLISHED, Rating


def published_ratings(rows: Iterable[tuple[int, Mapping[str, Any]]], source: str) -> list[Rating]:
    """Read rows of the form ``{"prompt_id": ..., "completion": {"0": {"score": ...}, ...}}``.

    ``rows`` are (line number, row) as ``jsonl.read_rows`` yields them. The id of an answer is ``PROMPT_ID/NUMBER``. The
    score -1, which the published code wrote for a reply without a score, becomes None. Raises ``InputError`` with
    ``source`` (the file) and the line number if a row has another form.
    """
    return [rating for line, row in rows for rating in _of_row(row, f"{source}, line {line}")]


def _of_row(row: Mapping[str, Any], place: str) -> Iterator[Rating]:
    prompt_id, answers = row.get("prompt_id"), row.get("completion")
    if not isinstance(prompt_id, str) or not isinstance(answers, Mapping):
        raise InputError(f"{place}: expected the keys prompt_id (text) and completion (answers by number)")
    for number, answer in sorted(answers.items()):
        score = answer.get("score") if isinstance(answer, Mapping) else None
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise InputError(f"{place}: answer {number} has no numeric score")
        yield Rating(f"{prompt_id}/{number}", prompt_id, None if score == UNPARSED_AS_PUBLISHED else float(score))
