"""Rows of preference data in TRL's conversational format, as ``tutelage data import preferences`` writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tutelage.data.conversations import conversation_of
from tutelage.examples import Preference
from tutelage.files.trl_format import labels_of
from tutelage.records import Prompt, content_id

CONVERT = "`tutelage data import preferences` converts other formats"


def parse_preference(row: Mapping[str, Any]) -> Preference:
    """Parse a row with ``prompt``, ``chosen`` and ``rejected``, each a list of messages.

    The prompt may have a system message and several turns; each side has one message. Ids that the row does not have
    are computed from the messages. ``weight`` and ``probability`` are those of ``Preference``, 1 if the row does not
    have them. Other keys are ignored. Raises ``ValueError`` if the row has another form, or as
    ``check_preference`` does.
    """
    prompt = _prompt(row)
    chosen, rejected = (_content(row, side, "assistant") for side in ("chosen", "rejected"))
    prompt_id = _id(row, "prompt_id") or prompt.id
    preference = Preference(
        prompt_id,
        prompt.text,
        chosen,
        rejected,
        _id(row, "chosen_id") or f"{prompt_id}/{content_id(chosen)}",
        _id(row, "rejected_id") or f"{prompt_id}/{content_id(rejected)}",
        _score(row, "score_chosen"),
        _score(row, "score_rejected"),
        prompt.messages,
        **labels_of(row),
    )
    check_preference(preference)
    return preference


def check_preference(preference: Preference) -> None:
    """Raise ``ValueError`` if nothing can be learned from a pair.

    A text is empty, both sides have the same text, the scores are equal, or the rejected side has the higher score.
    """
    for name in ("prompt", "chosen", "rejected"):
        if not getattr(preference, name).strip():
            raise ValueError(f"`{name}` is empty")
    if preference.chosen.strip() == preference.rejected.strip():
        raise ValueError("chosen and rejected are the same text")
    chosen, rejected = preference.score_chosen, preference.score_rejected
    if chosen is not None and rejected is not None and chosen <= rejected:
        raise ValueError(f"chosen scored {chosen:g}, which is not higher than the {rejected:g} of rejected")


def _prompt(row: Mapping[str, Any]) -> Prompt:
    _messages(row, "prompt", "user")
    try:
        return Prompt.of_messages(conversation_of(row["prompt"], "user"))
    except ValueError as error:
        raise ValueError(f"`prompt`: {error}") from error


def _messages(row: Mapping[str, Any], key: str, role: str) -> list[Mapping[str, str]]:
    messages = row.get(key)
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise ValueError(
            f'`{key}` must be a list of messages such as {{"role": "{role}", "content": "..."}}; {CONVERT}'
        )
    return messages


def _content(row: Mapping[str, Any], key: str, role: str) -> str:
    """The text of the only message of a conversation."""
    messages = _messages(row, key, role)
    if [message["role"] for message in messages] != [role]:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(f"`{key}` must have one message, of the role {role}; its roles are: {roles}; {CONVERT}")
    return str(messages[0]["content"])


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _id(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _score(row: Mapping[str, Any], key: str) -> float | None:
    score = row.get(key)
    if score is None:
        return None
    try:
        number = float(score) if isinstance(score, int | float) and not isinstance(score, bool) else math.nan
    except OverflowError:  # a whole number beyond the range of floats
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"`{key}` must be a finite number or null")
    return number
