"""Rows in TRL's format hold all messages of a prompt, and are read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from tutelage.errors import InputError
from tutelage.examples import Preference
from tutelage.files.jsonl import write_rows
from tutelage.files.trl_format import preference_of, preference_row, read_preferences, supervised_row
from tutelage.records import Message, conversation_text

CHAT = (
    Message("system", "Be brief."),
    Message("user", "Name a fruit."),
    Message("assistant", "Apple."),
    Message("user", "Another one?"),
)
ROWS = [{"role": message.role, "content": message.content} for message in CHAT]
PAIR = Preference("p", conversation_text(CHAT), "Pear.", "No.", "p/0", "p/1", 4.0, 2.0, CHAT)


def test_a_supervised_row_has_all_messages_of_a_conversation() -> None:
    assert supervised_row(CHAT, "Pear.") == {
        "prompt": ROWS,
        "completion": [{"role": "assistant", "content": "Pear."}],
    }


def test_a_text_and_its_one_user_message_make_the_same_supervised_row() -> None:
    assert supervised_row([Message("user", "hi")], "hello") == supervised_row("hi", "hello")


def test_a_pair_over_several_turns_is_read_back_whole() -> None:
    row = preference_row(PAIR)
    assert row["prompt"] == ROWS
    assert preference_of(row) == PAIR


def test_a_pair_of_one_turn_is_read_back_without_messages() -> None:
    pair = Preference("p", "hi", "a", "b", "p/0", "p/1")
    assert preference_row(pair)["prompt"] == [{"role": "user", "content": "hi"}]
    assert preference_of(preference_row(pair)) == pair


@pytest.mark.parametrize("prompt", [[], [{"role": "tool", "content": "a"}], [{"content": "a"}], "hi"])
def test_a_prompt_that_is_not_a_conversation_is_named_with_file_and_line(prompt: object, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [preference_row(PAIR), {**preference_row(PAIR), "prompt": prompt}])
    with pytest.raises(InputError, match=r"pairs\.jsonl, line 2: not a preference pair"):
        read_preferences(path)


def test_weight_and_soft_label_are_written_only_if_they_differ_from_1(tmp_path: Path) -> None:
    pairs = [evolve(PAIR, chosen_id="a", weight=0.0), evolve(PAIR, chosen_id="b", probability=0.75), PAIR]
    rows = [preference_row(pair) for pair in pairs]
    assert [row.keys() - preference_row(PAIR).keys() for row in rows] == [{"weight"}, {"probability"}, set()]
    write_rows(tmp_path / "pairs.jsonl", rows)
    assert read_preferences(tmp_path / "pairs.jsonl") == pairs


def test_a_weight_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [preference_row(PAIR), {**preference_row(PAIR), "weight": -1}])
    with pytest.raises(InputError, match=r"line 2: not a preference pair .*`weight` must be a finite number"):
        read_preferences(tmp_path / "pairs.jsonl")
