"""Training examples in TRL's conversational format, to which TRL applies the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tutelage.errors import InputError
from tutelage.examples import Example, LabelledAnswer, Preference
from tutelage.files.jsonl import read_rows
from tutelage.records import Message, conversation_text, is_one_turn

T = TypeVar("T")


def message(role: str, text: str) -> list[dict[str, str]]:
    """Make a conversation of one message."""
    return [{"role": role, "content": text}]


def message_rows(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Make a conversation of several messages."""
    return [{"role": one.role, "content": one.content} for one in messages]


def supervised_row(prompt: str | Sequence[Message], answer: str) -> dict[str, Any]:
    """Make a row for ``trl.SFTTrainer``, with prompt and completion. The prompt is a text or a conversation."""
    messages = message("user", prompt) if isinstance(prompt, str) else message_rows(prompt)
    return {"prompt": messages, "completion": message("assistant", answer)}


def example_of(row: Mapping[str, Any]) -> Example:
    """Parse a row of ``supervised_row``.

    Raises ``KeyError``, ``IndexError``, ``TypeError`` or ``ValueError`` for another form.
    """
    messages = _messages_of(row)
    return Example(
        conversation_text(messages), row["completion"][0]["content"], () if is_one_turn(messages) else messages
    )


def _messages_of(row: Mapping[str, Any]) -> tuple[Message, ...]:
    messages = tuple(Message(one["role"], one["content"]) for one in row["prompt"])
    if not messages:
        raise ValueError("the prompt has no messages")
    return messages


def preference_row(preference: Preference) -> dict[str, Any]:
    """Make a row for ``trl.DPOTrainer``. It also has scores and ids, which TRL ignores.

    Weight and soft label of the pair are left out at their default, 1.
    """
    return {
        "prompt": message_rows(preference.turns),
        "chosen": message("assistant", preference.chosen),
        "rejected": message("assistant", preference.rejected),
        "score_chosen": preference.score_chosen,
        "score_rejected": preference.score_rejected,
        "prompt_id": preference.prompt_id,
        "chosen_id": preference.chosen_id,
        "rejected_id": preference.rejected_id,
        **label_columns(preference),
    }


def labelled_row(answer: LabelledAnswer) -> dict[str, Any]:
    """Make a row for ``trl.KTOTrainer``: prompt, completion and label. It also has score and ids, which TRL ignores."""
    return {
        **supervised_row(answer.turns, answer.answer),
        "label": answer.desirable,
        "score": answer.score,
        "prompt_id": answer.prompt_id,
        "answer_id": answer.answer_id,
    }


def labelled_of(row: Mapping[str, Any]) -> LabelledAnswer:
    """Parse a row of ``labelled_row``.

    Raises ``KeyError``, ``IndexError``, ``TypeError`` or ``ValueError`` for another form.
    """
    example, desirable = example_of(row), row["label"]
    if not isinstance(desirable, bool):
        raise ValueError(f"the label must be true or false, not {desirable!r}")
    ids = row["prompt_id"], row["answer_id"]
    return LabelledAnswer(
        ids[0], example.prompt, example.answer, desirable, ids[1], row.get("score"), messages=example.messages
    )


def label_columns(preference: Preference) -> dict[str, float]:
    """Return the weight and the soft label of a pair, by their keys of a row, without those at their default."""
    columns = {"weight": preference.weight, "probability": preference.probability}
    return {key: value for key, value in columns.items() if value != 1}


def labels_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments ``weight`` and ``probability`` of ``Preference`` that a row has and that are not null."""
    return {key: row[key] for key in ("weight", "probability") if row.get(key) is not None}


def preference_of(row: Mapping[str, Any]) -> Preference:
    """Parse a row of ``preference_row``.

    Raises ``KeyError``, ``IndexError``, ``TypeError`` or ``ValueError`` for another form.
    """
    messages = _messages_of(row)
    return Preference(
        prompt_id=row["prompt_id"],
        prompt=conversation_text(messages),
        chosen=row["chosen"][0]["content"],
        rejected=row["rejected"][0]["content"],
        chosen_id=row["chosen_id"],
        rejected_id=row["rejected_id"],
        score_chosen=row.get("score_chosen"),
        score_rejected=row.get("score_rejected"),
        messages=() if is_one_turn(messages) else messages,
        **labels_of(row),
    )


def read_preferences(path: Path) -> list[Preference]:
    """Read the pairs of a ``preferences.jsonl``. Raises ``InputError`` with file and line if a row is not a pair."""
    return _parsed(path, preference_of, "a preference pair")


def read_examples(path: Path) -> list[Example]:
    """Read the examples of an ``examples.jsonl``. Raises ``InputError`` with file and line if a row is not one."""
    return _parsed(path, example_of, "an example")


def read_labelled(path: Path) -> list[LabelledAnswer]:
    """Read labelled answers. Raises ``InputError`` with file and line if a row is not one."""
    return _parsed(path, labelled_of, "a labelled answer")


def _parsed(path: Path, parse: Callable[[Mapping[str, Any]], T], name: str) -> list[T]:
    found = []
    for number, row in read_rows(path):
        try:
            found.append(parse(row))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not {name} ({error!r})") from error
    return found
