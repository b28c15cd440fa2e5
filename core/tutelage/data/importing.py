"""Import of external rows as prompts, examples or preferences.

In instruction form, a row has one column for the prompt and one for each answer. In chat form, these columns are lists
of messages, or one column is the whole conversation. All messages are kept. Nothing is repaired: a row is either
imported as it is, or reported as a fault with its location.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from attrs import define, field, frozen

from tutelage.data.conversations import conversation_of, is_conversation, messages_of
from tutelage.data.tables import LONGEST, TableRow, need_columns
from tutelage.examples import Preference
from tutelage.files.trl_format import labels_of, message_rows, preference_row
from tutelage.records import Message, Prompt, content_id, conversation_text, is_one_turn, user_texts

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
    """Column with the whole conversation, used instead of the prompt and answer columns. For preferences it has the
    prompt only."""


@frozen
class ScoreMapping:
    """A linear mapping of scores from one scale to another."""

    source: tuple[float, float]
    """Lowest and highest score of the imported data."""
    target: tuple[float, float]
    """Lowest and highest score of the rubric."""

    def mapped(self, score: float) -> float:
        """Return a score on the target scale. Raises ``FaultyRow`` if it is outside the source scale."""
        (lowest, highest), (target_lowest, target_highest) = self.source, self.target
        if not lowest <= score <= highest:
            raise FaultyRow(f"the score is outside the scale {lowest:g} to {highest:g}: {score:g}")
        return target_lowest + (score - lowest) / (highest - lowest) * (target_highest - target_lowest)


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


def import_rows(kind: str, rows: Iterable[TableRow], columns: Columns, mapping: ScoreMapping | None = None) -> Imported:
    """Import rows as ``kind``, a key of ``KINDS``. ``mapping`` maps the scores of judging examples to another scale.

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
            if mapping is not None:
                imported["score"] = mapping.mapped(imported["score"])
            prompt = repr(imported.get("prompt") or imported["messages"]) if kind == "prompts" else ""
            _check_once(ids, id, row.place, "the same id as")
            _check_once(texts, prompt, row.place, "the same prompt as")
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
    if columns.messages:
        messages = _conversation(columns.messages, values.get(columns.messages), None)
        turns = messages[:-1] if messages[-1].role == "assistant" else messages
    else:
        turns = _prompt_turns(columns.prompt, values.get(columns.prompt))
    return {**_prompt_keys(turns), **_kept_id(id)}


def _example(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    turns, answer = _turns_and_answer(values, columns)
    return {**_prompt_keys(turns), "answer": answer, **_kept_id(id)}


def _rated(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    turns, answer = _turns_and_answer(values, columns)
    reason = values.get(columns.reason) if columns.reason else None
    return {
        **_prompt_keys(turns),
        "answer": answer,
        "score": _score(values, columns.score),
        "reason": "" if reason is None else str(reason),
        **_kept_id(id),
    }


def _preference(values: Mapping[str, Any], columns: Columns, id: str) -> dict[str, Any]:
    prompt = columns.messages or columns.prompt
    turns, sides = _turns_and_sides(values, prompt, (columns.chosen, columns.rejected))
    if sides[0].strip() == sides[1].strip():
        raise FaultyRow(EQUAL_SIDES)
    for name, side in zip((columns.chosen, columns.rejected), sides, strict=True):
        _check_not_empty(name, side)
    better, worse = (_optional_score(values, f"score_{side}") for side in ("chosen", "rejected"))
    if better is not None and worse is not None:
        if better == worse:
            raise FaultyRow("the two sides are tied")
        if better < worse:
            raise FaultyRow("chosen scored lower than rejected")
    asked = Prompt.of_messages(turns)
    prompt_id = id or asked.id
    chosen, rejected = sides
    labels = {key: _optional_score(values, key) for key in ("weight", "probability")}
    try:
        preference = Preference(
            prompt_id=prompt_id,
            prompt=asked.text,
            chosen=chosen,
            rejected=rejected,
            chosen_id=f"{prompt_id}/{content_id(chosen)}",
            rejected_id=f"{prompt_id}/{content_id(rejected)}",
            score_chosen=better,
            score_rejected=worse,
            messages=asked.messages,
            **labels_of(labels),
        )
    except ValueError as error:
        raise FaultyRow(str(error)) from error
    return preference_row(preference)


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


def _prompt_keys(turns: Sequence[Message]) -> dict[str, Any]:
    """The text of a single user message, or all messages of a conversation."""
    return {"prompt": turns[0].content} if is_one_turn(turns) else {"messages": message_rows(turns)}


def _turns_and_answer(values: Mapping[str, Any], columns: Columns) -> tuple[list[Message], str]:
    """The messages of the prompt, and the text of the answer to them."""
    if columns.messages:
        messages = _conversation(columns.messages, values.get(columns.messages), "assistant")
        return messages[:-1], messages[-1].content
    turns, (answer,) = _turns_and_sides(values, columns.prompt, (columns.answer,))
    _check_not_empty(columns.answer, answer)
    return turns, answer


def _turns_and_sides(
    values: Mapping[str, Any], prompt: str, sides: Sequence[str]
) -> tuple[list[Message], tuple[str, ...]]:
    """The messages of the prompt, and the text of each side.

    A side is a text, the assistant's message, or a whole conversation, which must be the one of the prompt. If the
    prompt is the text of one of its user messages or its transcript, the messages are those of the sides.
    """
    turns = _prompt_turns(prompt, values.get(prompt))
    answered = {name: _answered(name, values.get(name)) for name in sides}
    befores = {name: messages[:-1] for name, messages in answered.items() if len(messages) > 1}
    if befores and isinstance(values.get(prompt), str):
        text, turns = turns[0].content.strip(), next(iter(befores.values()))
        if text not in {one.strip() for one in (*user_texts(turns), conversation_text(turns))}:
            raise FaultyRow(f"{next(iter(befores))} belongs to another conversation: {prompt} is none of its messages")
    for name, before in befores.items():
        if before != turns:
            raise FaultyRow(f"{name} belongs to another conversation: its messages before the answer differ")
    return turns, tuple(messages[-1].content for messages in answered.values())


def _prompt_turns(name: str, value: Any) -> list[Message]:
    if is_conversation(value):
        return _conversation(name, value, "user")
    text = _text(name, value)
    _check_not_empty(name, text)
    return [Message("user", text)]


def _answered(name: str, value: Any) -> list[Message]:
    """The messages of an answer column: the answer alone, or the whole conversation that ends with it."""
    if not is_conversation(value):
        return [Message("assistant", _text(name, value))]
    if len(value) > 1:
        return _conversation(name, value, "assistant")
    messages = _messages(name, lambda: messages_of(value))
    if messages[0].role != "assistant":
        raise FaultyRow(f"{name} is not an answer: its only message is the {messages[0].role}'s")
    return messages


def _conversation(name: str, value: Any, last: Literal["user", "assistant"] | None) -> list[Message]:
    return _messages(name, lambda: conversation_of(value, last))


def _messages(name: str, read: Callable[[], list[Message]]) -> list[Message]:
    try:
        messages = read()
    except ValueError as error:
        raise FaultyRow(f"{name} is not a conversation that can be used: {error}") from error
    for message in messages:
        _check_length(name, message.content)
    return messages


def _check_not_empty(name: str, text: str) -> None:
    if not text.strip():
        raise FaultyRow(f"{name} is empty")


def _text(name: str, value: Any) -> str:
    if value is None:
        raise FaultyRow(f"{name} is missing")
    if not isinstance(value, str):
        raise FaultyRow(f"{name} is neither a text nor a list of messages")
    _check_length(name, value)
    return value


def _check_length(name: str, text: str) -> None:
    if len(text) > LONGEST:
        raise FaultyRow(f"{name} is longer than {LONGEST:,} characters: {len(text):,}")


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
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise FaultyRow(f"{name} is not a number: {str(value)[:40]!r}")
    return score
