"""Conversations in records: what identifies them, what shows them, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import InputError
from tutelage.examples import Example, Preference, RatedExample
from tutelage.files.jsonl import dump, read_records, write_rows
from tutelage.records import Message, Prompt, content_id, conversation_text, user_texts

CHAT = (
    Message("system", "Be brief."),
    Message("user", "Name a fruit."),
    Message("assistant", "Apple."),
    Message("user", "Another one?"),
)
TRANSCRIPT = "System: Be brief.\n\nUser: Name a fruit.\n\nAssistant: Apple.\n\nUser: Another one?"


def test_the_text_of_a_conversation_is_its_transcript() -> None:
    prompt = Prompt.of_messages(CHAT, "chats")
    assert (prompt.text, prompt.source, prompt.turns) == (TRANSCRIPT, "chats", CHAT)
    assert user_texts(prompt.turns) == ("Name a fruit.", "Another one?")


def test_one_user_message_is_the_prompt_of_its_text() -> None:
    prompt = Prompt.of_messages([Message("user", "Name a fruit.")])
    assert prompt == Prompt("Name a fruit.")
    assert prompt.messages == ()
    assert prompt.turns == (Message("user", "Name a fruit."),)
    assert prompt.id == content_id("Name a fruit.")


@pytest.mark.parametrize("position", range(len(CHAT)))
def test_the_id_of_a_prompt_follows_from_every_message(position: int) -> None:
    changed = list(CHAT)
    changed[position] = Message(CHAT[position].role, "Something else.")
    assert Prompt.of_messages(changed).id != Prompt.of_messages(CHAT).id


def test_a_text_that_looks_like_a_transcript_is_another_prompt_than_the_conversation() -> None:
    assert Prompt(TRANSCRIPT).id != Prompt.of_messages(CHAT).id


def test_a_role_that_no_chat_template_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="role"):
        Message("tool", "42")


ONE_TURN: list[tuple[Any, dict[str, Any]]] = [
    (Prompt("hi"), {"text": "hi", "source": "", "id": content_id("hi")}),
    (Example("hi", "hello"), {"prompt": "hi", "answer": "hello"}),
    (RatedExample("hi", "hello", 5.0), {"prompt": "hi", "answer": "hello", "score": 5.0, "reason": ""}),
    (
        Preference("p", "hi", "a", "b", "p/0", "p/1"),
        {
            "prompt_id": "p",
            "prompt": "hi",
            "chosen": "a",
            "rejected": "b",
            "chosen_id": "p/0",
            "rejected_id": "p/1",
            "score_chosen": None,
            "score_rejected": None,
        },
    ),
]


@pytest.mark.parametrize(("record", "row"), ONE_TURN)
def test_the_row_of_one_turn_is_byte_for_byte_that_of_older_versions(record: Any, row: dict[str, Any]) -> None:
    assert dump(record) == json.dumps(row)


@pytest.mark.parametrize(("record", "row"), ONE_TURN)
def test_rows_of_older_versions_are_read(record: Any, row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text(json.dumps(row) + "\n")
    assert list(read_records(tmp_path / "old.jsonl", type(record))) == [record]


def test_conversations_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    text = conversation_text(CHAT)
    for record in (
        Prompt.of_messages(CHAT, "chats"),
        Example(text, "Pear.", messages=CHAT),
        RatedExample(text, "Pear.", 4.0, "Right.", CHAT),
        Preference("p", text, "Pear.", "No.", "p/0", "p/1", messages=CHAT),
    ):
        write_rows(tmp_path / "rows.jsonl", [record])
        assert list(read_records(tmp_path / "rows.jsonl", type(record))) == [record]


def test_a_row_with_an_unknown_role_is_named_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "a", "messages": [{"role": "tool", "content": "a"}], "id": "1"}\n')
    with pytest.raises(InputError, match=r"p\.jsonl, line 1: not a Prompt: invalid value @ row.messages\[0\]"):
        list(read_records(tmp_path / "p.jsonl", Prompt))
