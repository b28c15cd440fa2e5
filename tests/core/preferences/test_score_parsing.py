"""The score that a judge's reply states, or the reason why it states none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.preferences.judging import ADDITIVE_RUBRIC, reply
from tutelage.preferences.score_parsing import parse_score
from tutelage.records import Rubric

SEED_PAPER = Path(__file__).parents[4] / "shared" / "data" / "seed_paper"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 4", 4),
        ("Score: 4\nGood.", 4),
        ("SCORE  =  3", 3),
        ("score: 4/5", 4),
        ("score: 4 / 5 - good", 4),
        ("score: 4 out of 5", 4),
        ("**Score:** 4", 4),
        ("**Score**: **4**", 4),
        ("_Score_: 2", 2),
        ("final_score: 2", 2),
        ("score : 4 because it is short", 4),
        ('{"score": 3, "reason": "fine"}', 3),
        ("Score: 4<|im_end|>", 4),
        ("score:\n2", 2),
        ("score: 2.5", 2.5),
        ("score: 4. It is good", 4),
        ("score: 4, because", 4),
        ("Score\uff1a4", 4),
        ("score: 0", 0),
        ("I give it 4 out of 5.", 4),
        ("4/5", 4),
        ("Rated 4 out of 5 points", 4),
        ("score: 4\nAs said, score: 4.0", 4),
        ("score: 3 because 4 out of 5 words are right", 3),
        ("score: 4\n3 of them are wrong", 4),
    ],
)
def test_a_stated_score_is_read(text: str, score: float) -> None:
    assert parse_score(text, ADDITIVE_RUBRIC).score == score


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("Great answer!", "no score"),
        ("Rating: 4", "no score"),
        ("score: four", "no score"),
        ("score: N/A", "no score"),
        ("score: <total points>", "no score"),
        ("score: 3-4", "no score"),
        ("score: 3 to 4", "no score"),
        ("score: 3 or 4", "no score"),
        ("score: 80%", "no score"),
        ("score: 4th", "no score"),
        ("score: 1e5", "no score"),
        ("score: 4,5", "no score"),
        ("score: 4.5.1", "no score"),
        ("score: ٤", "no score"),
        ("score: nan", "no score"),
        ("underscore: 4", "no score"),
        ("scores: 4, 5", "no score"),
        ("The maximum score is 5.", "no score"),
        ("4 out of 5 words are right", "no score"),
        ("He was born on 4/5/1990.", "no score"),
        ("score: 6", "not between 0 and 5"),
        ("score: -1", "not between 0 and 5"),
        ("score: 45", "not between 0 and 5"),
        ("score: 4/10", "scale of 10"),
        ("8 out of 10.", "scale of 10"),
        ("score: 4\nscore: 2", "contradicts itself: 2, 4"),
        ("score: 4 ... score: 9", "not between"),
        ("It says score: 5. score: 1", "contradicts itself"),
        ("2/5, no, 3/5", "contradicts itself"),
    ],
)
def test_a_reply_without_one_valid_score_has_none_and_says_why(text: str, detail: str) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score is None
    assert detail in parsed.detail


def test_the_scale_is_the_rubrics() -> None:
    ten = Rubric("ten", lowest=1, highest=10)
    assert parse_score("score: 8/10", ten).score == 8
    assert parse_score("score: 0", ten).score is None
    assert parse_score("score: 8/5", ten).score is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("score: 4\nIt is complete.", "It is complete."),
        ("score: 4 because it is complete", "because it is complete"),
        ("It is complete.\n\n**Score:** 4", "It is complete."),
        ("Great!", "Great!"),
    ],
)
def test_the_reason_is_the_reply_without_its_score(text: str, reason: str) -> None:
    assert parse_score(text, ADDITIVE_RUBRIC).reason == reason


@given(st.integers(0, 5), st.text(alphabet=st.characters(exclude_characters="0123456789:=\uff1a"), max_size=60))
def test_what_a_student_learns_to_reply_is_read_back(score: int, reason: str) -> None:
    assert parse_score(reply(score, reason), ADDITIVE_RUBRIC).score == score
    assert parse_score(reply(score, reason).replace("\n", " "), ADDITIVE_RUBRIC).score == score


@given(st.text(max_size=80))
def test_any_reply_gives_a_score_on_the_scale_or_a_reason_why_not(text: str) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.detail if parsed.score is None else 0 <= parsed.score <= 5


@pytest.mark.skipif(not SEED_PAPER.is_dir(), reason=f"the published replies are not at {SEED_PAPER}")
def test_of_800_real_replies_nearly_all_are_read_and_none_is_read_wrongly() -> None:
    """The scores are compared with those of the published code. Its replies include the prompt and the end token."""
    lines = (SEED_PAPER / "m1_scores.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [answer for row in map(json.loads, lines) for answer in row["completion"].values()]
    replies = [answer["reasoning"].split("<|im_start|>assistant", 1)[1].split("<|im_end|>")[0] for answer in answers]
    parsed = [parse_score(text, ADDITIVE_RUBRIC) for text in replies]
    wrong = [
        (one.score, answer["score"])
        for one, answer in zip(parsed, answers, strict=True)
        if one.score is not None and one.score != answer["score"]
    ]
    assert wrong == []
    assert sum(one.score is not None for one in parsed) >= 795
