"""Thinking blocks are no part of an answer, and a score or a verdict is what follows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.preferences.score_parsing import parse_score
from tutelage.preferences.thinking import CUT_BLOCK, ONLY_BLOCK, settled, split_thinking, without_thinking
from tutelage.preferences.verdict_parsing import parse_preference
from tutelage.records import Outcome, Rubric

ANSWERED, CUT = Outcome.ANSWERED, Outcome.CUT
MARKS = (
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ('<think effort="high">', "</think>"),
    ("[THINK]", "[/THINK]"),
    ("[thinking]", "[/thinking]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
)


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_every_kind_of_block_is_removed_and_not_read(opening: str, closing: str) -> None:
    reply = f"{opening}\nmaybe score: 2, better: second.\n{closing}\n\nscore: 4\nGood. better: first"
    assert without_thinking(reply, ANSWERED, "") == ("score: 4\nGood. better: first", ANSWERED, "")
    assert (parse_score(reply, ADDITIVE_RUBRIC).score, parse_preference(reply).preference) == (4, 1.0)
    assert parse_score(reply, ADDITIVE_RUBRIC).reason == "Good. better: first"


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_a_block_that_is_not_closed_has_no_score_and_no_text(opening: str, closing: str) -> None:
    reply = f"{opening}score: 2 would be too harsh, better: second. score: 3"
    assert without_thinking(reply, ANSWERED, "") == ("", CUT, CUT_BLOCK)
    assert parse_score(reply, ADDITIVE_RUBRIC).detail == parse_preference(reply).detail == CUT_BLOCK
    assert parse_score(reply, ADDITIVE_RUBRIC).score is parse_preference(reply).preference is None


@pytest.mark.parametrize(
    ("reply", "visible", "answer"),
    [
        ("<think>a</think>b<think>c</think>d", "bd", "d"),
        ("<think>a</think><thinking>b</thinking>c", "c", "c"),
        ("<think>\n\n</think>\n\nb", "b", "\n\nb"),
        ("Sure.\n<think>a</think>\nb", "Sure.\n\nb", "\nb"),
        ("Okay, <think>a</think> b", "Okay,  b", " b"),
        ("a prompt that ended with the opening mark\n</think>\n\nb", "b", "\n\nb"),
        ("a</think>b", "b", "b"),
        ("<think>\n<think>\na\n</think>\nb\n</think>\nc", "c", "\nc"),
        ('<think>I close with "</think>" later. b</think>c', "c", "c"),
        (
            "<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>\nb\n<|end_of_solution|>",
            "b",
            "\n<|begin_of_solution|>\nb\n<|end_of_solution|>",
        ),
    ],
)
def test_several_nested_and_half_marked_blocks_are_removed(reply: str, visible: str, answer: str) -> None:
    split = split_thinking(reply)
    assert (split.visible, split.answer, reply[split.answer_start :]) == (visible, answer, answer)
    assert split.has_block and not split.cut


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  an answer that keeps its blanks \n",
        "I think so. [thinking aloud] <b>Yes</b>",
        "Put it between <think> and </think> tags.",
        "The <think> tag starts a block.",
        "The block ends with </think>.",
        "Use `<think>` and `</think>`.",
        're.sub(r"<think>.*?</think>", "", text)',
        "```xml\n<think>\na\n</think>\n```",
        "The tags are: <think>, <thought>.",
        "<thinker>a</thinker>",
    ],
)
def test_a_text_that_mentions_a_mark_is_unchanged(text: str) -> None:
    assert without_thinking(text, ANSWERED, "") == (text, ANSWERED, "")
    assert split_thinking(text).answer == text


@pytest.mark.parametrize(
    ("text", "outcome", "detail", "expected"),
    [
        ("<think>a</think>", ANSWERED, "", ("", CUT, ONLY_BLOCK)),
        ("<think>a", CUT, "limit", ("", CUT, f"{CUT_BLOCK}; limit")),
        ("<think>a</think> b", CUT, "limit", ("b", CUT, "limit")),
        ("b\n<think>a", ANSWERED, "", ("b", CUT, CUT_BLOCK)),
        ("<think>a</think>", Outcome.REFUSED, "blocked", ("", Outcome.REFUSED, "blocked")),
    ],
)
def test_an_answer_without_text_after_its_block_is_cut_and_says_why(
    text: str, outcome: Outcome, detail: str, expected: tuple[str, Outcome, str]
) -> None:
    assert without_thinking(text, outcome, detail) == expected


def test_a_score_before_a_block_is_replaced_by_the_one_after_it() -> None:
    assert parse_score("score: 2\n<think>too harsh</think>\nscore: 4", ADDITIVE_RUBRIC).score == 4
    assert parse_score("score: 2\n<think>too har", ADDITIVE_RUBRIC).detail == CUT_BLOCK
    assert parse_score("score: 2\n<think>too harsh</think>", ADDITIVE_RUBRIC).detail == ONLY_BLOCK


def test_a_one_token_verdict_is_what_follows_the_block() -> None:
    rubric = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=("m", "M"))
    assert parse_preference("<think>m or M?</think>\n\nM", rubric).preference == 0.0
    assert parse_preference("<think>m", rubric).detail == CUT_BLOCK


PARTS = st.sampled_from(
    [part for marks in MARKS for part in marks] + ["`", "```", '"', "\n", " ", ".", "a", "score: 4"]
)


@given(st.lists(PARTS, max_size=12).map("".join))
def test_a_split_reply_consists_of_parts_of_the_reply(reply: str) -> None:
    split = split_thinking(reply)
    assert reply.endswith(split.answer)
    assert split.has_block or split == type(split)(reply, reply, 0)
    assert len(split.visible) <= len(reply)
    text, outcome, _ = without_thinking(reply, ANSWERED, "")
    assert outcome is CUT or text.strip() or not split.has_block


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@pytest.mark.parametrize(
    "form",
    [
        "{0}\nhm: 2 < 3?\n{1}\n\nTwo is less. [1] a <b> and c",
        "First.\n{0}\nhm\n{1}\nThen, {0}again{1} more.",
        "The {0} tag starts it, `{0}` and `{1}` are code: x < y.",
        "So,{0} hm {1} that is it.",
        "Open at the end. {0}\nhm, and",
        "```\n{0}\nhm\n```\nis code.",
    ],
)
def test_what_is_shown_of_an_incomplete_reply_is_the_start_of_its_visible_text(
    opening: str, closing: str, form: str
) -> None:
    reply = form.format(opening, closing)
    whole = split_thinking(reply).visible
    shown = [settled(reply[:end]).rstrip() for end in range(len(reply) + 1)]
    assert [text for text in shown if not whole.startswith(text)] == []


def test_a_reply_without_marks_is_shown_as_it_grows() -> None:
    reply = "If a < b, then x[0] is 1.\nGood."
    assert [settled(reply[:end]) for end in (5, 9, 18, len(reply))] == [
        "If a ", "If a < b,", "If a < b, then x[0", reply,
    ]  # fmt: skip
    assert settled("<think>\nhm\n</think>\nYes, it") == "Yes, it"
