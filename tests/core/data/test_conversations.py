"""Conversations are read from the forms of public data sets, and refused with the reason if turns are missing."""

from typing import Any, Literal

import pytest

from tutelage.data.conversations import conversation_of
from tutelage.records import Message

USER, ASSISTANT = {"role": "user", "content": "hi?"}, {"role": "assistant", "content": "hello"}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.mark.parametrize(
    ("cell", "last", "expected"),
    [
        ([USER, ASSISTANT], "assistant", [Message("user", "hi?"), Message("assistant", "hello")]),
        ([SYSTEM, USER], "user", [Message("system", "Be kind."), Message("user", "hi?")]),
        (
            [{"from": "human", "value": "hi?"}, {"from": "gpt", "value": "hello"}],
            "assistant",
            [Message("user", "hi?"), Message("assistant", "hello")],
        ),
        (
            [{"role": "SYSTEM", "content": "Be kind."}, {"role": "User", "content": "hi?"}],
            "user",
            [Message("system", "Be kind."), Message("user", "hi?")],
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "two "}, "parts"]}],
            "user",
            [Message("user", "two parts")],
        ),
        (
            [USER, ASSISTANT, USER, {"role": "assistant", "content": " again ", "tool_calls": None}],
            "assistant",
            [
                Message("user", "hi?"),
                Message("assistant", "hello"),
                Message("user", "hi?"),
                Message("assistant", " again "),
            ],
        ),
    ],
)
def test_conversations_of_public_data_sets_are_read(
    cell: Any, last: Literal["user", "assistant"], expected: list[Message]
) -> None:
    assert conversation_of(cell, last) == expected


@pytest.mark.parametrize(
    ("cell", "last", "reason"),
    [
        ([ASSISTANT, USER, ASSISTANT], "assistant", "the conversation begins with the assistant"),
        ([SYSTEM, ASSISTANT], "assistant", "the conversation begins with the assistant"),
        ([USER, USER, ASSISTANT], "assistant", "message 2 is the user's, as is the message before it"),
        ([SYSTEM, USER, ASSISTANT, ASSISTANT], "assistant", "message 4 is the assistant's, as is the message before"),
        ([USER, SYSTEM, ASSISTANT], "assistant", "message 2 is a system message; only the first message may be one"),
        ([SYSTEM, SYSTEM, USER], "user", "message 2 is a system message; only the first message may be one"),
        ([USER, ASSISTANT, USER], "assistant", "ends with the user; the last message must be the assistant's"),
        ([USER, ASSISTANT], "user", "ends with the assistant; the last message must be the user's"),
        ([SYSTEM], "user", "ends with the system; the last message must be the user's"),
        ([], "user", "the conversation is empty"),
        ('[{"role": "user"}]', "user", "a text instead of a conversation"),
        (None, "user", "not a conversation"),
        ({"role": ["user"], "content": ["hi?"]}, "user", "not a conversation"),
        (["hi?"], "user", "message 1 is not an object"),
        ([{"content": "hi?"}], "user", "message 1 has no role"),
        ([{"role": "tool", "content": "3"}], "user", "message 1 has the unknown role 'tool'; known: system, user"),
        ([{"role": "user", "content": " \n"}], "user", r"message 1 \(user\) is empty"),
        ([{"role": "user", "content": []}], "user", r"message 1 \(user\) is empty"),
        ([{"role": "user", "content": None}], "user", "message 1 has no content"),
        ([{"from": "human"}], "user", "message 1 has no value"),
        ([{"role": "user", "content": 3}], "user", "content of message 1 is neither a text nor a list of text parts"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "user",
            "content of message 1 has a part that is not text: image_url",
        ),
        ([USER, {**ASSISTANT, "tool_calls": [{"id": "a"}]}], "assistant", "message 2 has tool_calls"),
    ],
)
def test_anything_else_is_refused_with_the_reason(cell: Any, last: Literal["user", "assistant"], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        conversation_of(cell, last)
