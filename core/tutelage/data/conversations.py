"""Conversations in the forms of public data sets, read as checked messages.

A conversation is a list of ``{"role": ..., "content": ...}``, as chat templates and OpenAI's API have it, or of
``{"from": ..., "value": ...}``, as ShareGPT has it. Nothing is repaired: a conversation that is not
``[system,] user, assistant, user, assistant, ...`` raises ``ValueError`` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tutelage.records import Message

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
"""Roles by the lower-case names that data sets use for them."""

LISTED = "expected a list of messages, each with role and content (or from and value)"
ORDER = "expected [system,] user, assistant, user, assistant, ..."


def conversation_of(cell: Any, last: Literal["user", "assistant"] | None) -> list[Message]:
    """Read a conversation that begins with the user, after an optional system message, and alternates.

    ``last`` is the role of the last message: ``"user"`` for a prompt, ``"assistant"`` for a prompt and its answer. None
    allows both.
    Raises ``ValueError`` with the reason for every other value.
    """
    messages = messages_of(cell)
    turns = messages[1:] if messages[0].role == "system" else messages
    first = len(messages) - len(turns) + 1
    for number, message in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise ValueError(_order_problem(number, first, message.role, expected))
    if not turns or turns[-1].role != (last or turns[-1].role):
        ending = f"the conversation ends with the {messages[-1].role}"
        raise ValueError(f"{ending}; the last message must be the {last or 'user'}'s")
    return messages


def messages_of(cell: Any) -> list[Message]:
    """Read the messages of a list in any order. Raises ``ValueError`` if it is empty or one is not a message."""
    if isinstance(cell, str):
        raise ValueError(f"a text instead of a conversation; {LISTED}")
    if not isinstance(cell, Sequence):
        raise ValueError(f"not a conversation; {LISTED}")
    if not cell:
        raise ValueError("the conversation is empty")
    return [_message(value, number) for number, value in enumerate(cell, 1)]


def is_conversation(cell: Any) -> bool:
    """Whether a cell has the form of a conversation: a list, even an empty or a faulty one."""
    return isinstance(cell, Sequence) and not isinstance(cell, str)


def _order_problem(number: int, first: int, role: str, expected: str) -> str:
    place = f"message {number + first}"
    if role == "system":
        return f"{place} is a system message; only the first message may be one"
    if number == 0:
        return f"the conversation begins with the {role}; {ORDER}"
    return f"{place} is the {role}'s, as is the message before it; the {expected}'s is missing; {ORDER}"


def _message(value: Any, number: int) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"message {number} is not an object; {LISTED}")
    role_key, content_key = ("role", "content") if "role" in value else ("from", "value")
    name = value.get(role_key)
    if not isinstance(name, str):
        raise ValueError(f"message {number} has no role; {LISTED}")
    role = ROLES.get(name.strip().lower())
    if role is None:
        raise ValueError(f"message {number} has the unknown role {name[:40]!r}; known: {', '.join(ROLES)}")
    if calls := next((key for key in ("tool_calls", "function_call") if value.get(key)), None):
        raise ValueError(f"message {number} has {calls}, which cannot be learned from text")
    text = _text(value.get(content_key), number, content_key)
    if not text.strip():
        raise ValueError(f"message {number} ({role}) is empty")
    return Message(role, text)


def _text(content: Any, number: int, key: str) -> str:
    """The content as one text; the texts of a list of parts are joined without a separator."""
    if content is None:
        raise ValueError(f"message {number} has no {key}")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(f"{key} of message {number} is neither a text nor a list of text parts")
    return "".join(_part(part, number, key) for part in content)


def _part(part: Any, number: int, key: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ValueError(f"{key} of message {number} has a part that is not text: {kind}")
