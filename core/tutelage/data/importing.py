"""Import of external rows as prompts, examples or preferences.

In instruction form, a row has one column for the prompt and one for each answer. In chat form, these columns are lists
of messages, or one column is the whole conversation, of which the first turn is used. Nothing is repaired: a row is
either imported as it is, or reported as a fault with its location.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from tutelage.data.tables import LONGEST, TableRow, need_columns
from tutelage.files.trl_format import preference_row
from tutelage.records import Preference, content_id

EQUAL_SIDES = "chosen and rejected are the same text"


@frozen
class Columns:
    """Names of the columns to import from; None for a column that does not exist."""

    prompt: str = "prompt"
    answer: str = "answer"
    score: str = "score"
    chosen: str = "chosen"
    rejected: str = "rejected"
    reason: str | None = None
    id: str | None = None
    messages: str | None = None
    """Column with the whole conversation, used instead of the prompt and answer columns."""


@frozen
class Fault:
    """A row that cannot be used."""

    place: str
    """Location of the row, such as ``FILE, line 3``."""
    id: str
    """Value of the id column; empty if no id column is named."""
    reason: str
    """The reason. Text after the first colon is specific to this row."""


@define
class Imported:
    """The result of an import: the rows in tutelage's own form, and the rows that cannot be used."""

    rows: list[dict[str, Any]] = field(factory=list)
    faults: list[Fault] = field(factory=list)

    def reasons(self) -> dict[str, int]:
        """Return the number of faults by kind, most frequent first."""
        return dict(Counter(fault.reason.partition(":")[0] for fault in self.faults).most_common())


class FaultyRow(ValueError):
    """A row cannot be used. Text after the first colon of the message is specific to this row."""


def import_rows(kind: str, rows: Iterable[TableRow], columns: Columns) -> Imported:
    """Import rows as ``kind``, a key of ``KINDS``.

    Raises ``InputError`` if a column is missing or a file is damaged.
    """
    needed, read = KINDS[kind]
    found = Imported()
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for row in need_columns(rows, _columns_needed(needed, columns)):
        id = _id(row, columns)
        try:
            imported = read(row.values, columns, id)
            _check_once(ids, id, row.place, "the same id as")
            _check_once(texts, repr(imported["prompt"]) if kind == "prompts" else "", row.place, "the same prompt as")
        except FaultyRow as fault:
            found.faults.append(Fault(row.place, id, str(fault)))
        else:
            found.rows.append(imported)
    return found


def _columns_needed(needed: Iterable[str], columns: Columns) -> Iterator[str]:
    for name in needed:
        if not (columns.messages and name in ("prompt", "answer")):
            yield getattr(columns, name)
    yield from (name for name in (columns.reason, columns.id, columns.messages) if name)


def _id(row: TableRow, columns: Columns) -> str:
    value = row.values.get(columns.id) if columns.id else None
    return "" if value is None else str(value)


def _check_once(seen: dict[str, str], value: str, place: str, problem: str) -> None:
    if value and seen.setdefault(value, place) != place:
        raise FaultyRow(f"{problem} another row: {seen[value]}")


def _prompt(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    return {"prompt": _prompt_text(values, columns), **_kept_id(id)}


def _example(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    return {"prompt": _prompt_text(values, columns), "answer": _answer_text(values, columns), **_kept_id(id)}


def _rated(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    reason = values.get(columns.reason) if columns.reason else None
    return {
        "prompt": _prompt_text(values, columns),
        "answer": _answer_text(values, columns),
        "score": _score(values, columns.score),
        "reason": "" if reason is None else str(reason),
        **_kept_id(id),
    }


def _preference(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    prompt = _prompt_text(values, columns)
    sides = [_side(name, values.get(name)) for name in (columns.chosen, columns.rejected)]
    chosen, rejected = sides
    if chosen.strip() == rejected.strip():
        raise FaultyRow(EQUAL_SIDES)
    _check_not_empty(columns.chosen, chosen)
    _check_not_empty(columns.rejected, rejected)
    scores = [_optional_score(values, f"score_{side}") for side in ("chosen", "rejected")]
    if None not in scores and scores[0] == scores[1]:
        raise FaultyRow("the two sides are tied")
    if None not in scores and scores[0] < scores[1]:  # type: ignore[operator]
        raise FaultyRow("chosen scored lower than rejected")
    prompt_id = id or content_id(prompt)
    ids = [f"{prompt_id}/{content_id(side)}" for side in sides]
    return preference_row(Preference(prompt_id, prompt, chosen, rejected, ids[0], ids[1], scores[0], scores[1]))


Reader = Callable[[Mapping[str, Any], Columns, str], dict[str, Any]]

KINDS: Mapping[str, tuple[tuple[str, ...], Reader]] = {
    "prompts": (("prompt",), _prompt),
    "ift": (("prompt", "answer"), _example),
    "eft": (("prompt", "answer", "score"), _rated),
    "preferences": (("prompt", "chosen", "rejected"), _preference),
}
"""The kinds of rows that can be imported, each with the columns that it needs and the function that reads a row."""


def _kept_id(id: str) -> dict[str, str]:
    return {"id": id} if id else {}


def _prompt_text(values: Mapping[str, Any], columns: Columns) -> str:
    name = columns.messages or columns.prompt
    if not columns.messages:
        _check_one_turn(name, values.get(name), 1)
    text = _text(name, _first_of("user", values.get(name)))
    _check_not_empty(name, text)
    return text


def _answer_text(values: Mapping[str, Any], columns: Columns) -> str:
    name = columns.messages or columns.answer
    text = _text(name, _first_of("assistant", values.get(name)))
    _check_not_empty(name, text)
    return text


def _check_not_empty(name: str, text: str) -> None:
    if not text.strip():
        raise FaultyRow(f"{name} is empty")


def _text(name: str, value: Any) -> str:
    if value is None:
        raise FaultyRow(f"{name} is missing")
    if not isinstance(value, str):
        raise FaultyRow(f"{name} is neither a text nor a list of messages")
    if len(value) > LONGEST:
        raise FaultyRow(f"{name} is longer than {LONGEST:,} characters: {len(value):,}")
    return value


def _messages(value: Any) -> list[Mapping[str, Any]] | None:
    """The messages of a conversation; None if the value is not a conversation."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "role" in one for one in value):
        return value
    return None


def _first_of(role: str, value: Any) -> Any:
    """The text of a role's first message, if the value is a conversation; otherwise the value itself."""
    messages = _messages(value)
    return value if messages is None else next((one.get("content") for one in messages if one["role"] == role), None)


def _side(name: str, value: Any) -> str:
    """The text of one side of a pair: the value is a text, the assistant's message, or a conversation of one turn."""
    _check_one_turn(name, value, 2)
    return _text(name, _reply(value))


def _check_one_turn(name: str, value: Any, most: int) -> None:
    """Refuse a prompt or preference with earlier turns: one prompt cannot hold them, and the first turn differs."""
    turns = [one for one in _messages(value) or () if one["role"] != "system"]
    if len(turns) > most:
        raise FaultyRow(f"{name} has several turns: {len(turns)} messages")


def _reply(value: Any) -> Any:
    """The text of the last message of a conversation, or None if it is not the assistant's; other values unchanged."""
    messages = _messages(value)
    if messages is None:
        return value
    return messages[-1].get("content") if messages[-1]["role"] == "assistant" else None


def _score(values: Mapping[str, Any], name: str) -> float:
    score = _optional_score(values, name)
    if score is None:
        raise FaultyRow(f"{name} is missing")
    return score


def _optional_score(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    try:
        score = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise FaultyRow(f"{name} is not a number: {str(value)[:40]!r}")
    return score
