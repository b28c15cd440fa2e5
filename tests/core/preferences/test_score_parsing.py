"""The score that a judge's reply states, or the reason why it states none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.preferences.judging import ADDITIVE_RUBRIC, reply
from tutelage.preferences.score_parsing import parse_score
from tutelage.records import Rubric

SHARED = Path(__file__).parents[4] / "shared"
SEED_PAPER = SHARED / "data" / "seed_paper"
CASES = SHARED / "cases" / "replies.jsonl"


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


NEITHER_NUMBER_NOR_SIGN = st.characters(
    exclude_characters=":=\uff1a%\u2030\uff05?\uff1f", exclude_categories=("N", "Cs")
)


@given(st.integers(0, 5), st.text(alphabet=NEITHER_NUMBER_NOR_SIGN, max_size=60))
def test_it_is_read_back_from_one_line_unless_a_number_or_a_sign_follows(score: int, reason: str) -> None:
    assert parse_score(reply(score, reason).replace("\n", " "), ADDITIVE_RUBRIC).score == score


@given(st.text(max_size=80))
def test_any_reply_gives_a_score_on_the_scale_or_a_reason_why_not(text: str) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.detail if parsed.score is None else 0 <= parsed.score <= 5


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 1+1+1=3/5", 3),
        ("score: 1 point + 1 point = 2 points", 2),
        ("Score: 1 (relevance) + 1 (coverage) + 0 = 2", 2),
        ("score: 1 + 1 + 1", 3),
        ("score: 5 - 1 = 4", 4),
        ("score: 1 + 1 = 3", None),
        ("score: 2 + 1 = 3 out of 10", None),
        ("score: **1 + 1** = **2**", 2),
    ],
)
def test_a_sum_counts_by_its_result(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 4 out of ten", None),
        ("score: 4 out of five", 4),
        ("Score: 4\uff0f10", None),
        ("Score: 4\uff0f5", 4),
        ("score: 4 \uff0f 5", 4),
        ("score: **4**/10", None),
        ("score: **4** out of 10", None),
        ("score: 4 stars out of 10", None),
        ("score: 4 on a scale of 1 to 10", None),
        ("score: 4, on a scale from 1 to 5", 4),
        ("score: 4 on a 10-point scale", None),
        ("score: 4 on a five-point scale", 4),
        ("score: 4 (max 10)", None),
        ("score: 4 (max. 5 points)", 4),
        ("score: 4 (maximum: 10)", None),
        ("score: 4 (1-10)", None),
        ("score: 4 (0-5)", 4),
        ("score: 4 [out of 10]", None),
        ("score: 4 (4/10)", None),
        ("score: 4 (4/5)", 4),
        ("score: 4 (3 of 5 reasons)", 4),
        ("score: 4 (3/5 criteria)", 4),
        ("score: 4 (5)", None),
        ("score: 4 (4)", 4),
        ("score: 4 (80%)", 4),
        ("score: 4 (1 + 1 + 1 + 1)", 4),
        ("score: 4 of a possible 10", None),
        ("score: 4 out of a maximum of 10 points", None),
        ("score: 4 of the 5 points", 4),
    ],
)
def test_a_score_on_another_scale_is_none(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 4 \u2013 5", None),
        ("score: 4 \u2014 5", None),
        ("score: 4 \uff5e 5", None),
        ("score: 4 -> 5", None),
        ("score: 4 \u2192 3", None),
        ("score: 4 and 5", None),
        ("score: 4 or maybe 5", None),
        ("score: 4, no, 5", None),
        ("score: 4, actually 3", None),
        ("score: 4, make it 5", None),
        ("score: 4... no, 5", None),
        ("score: 4. No, 5", None),
        ("score: 4 or five", None),
        ("score: 4; 5", None),
        ("score: 4\u30015", None),
        ("score: 4\uff0c5", None),
        ("score: 4 5", None),
        ("score: 4/5/10", None),
        ("score: 4/5 or 5/5", None),
        ("score: 4 / 5, 3", None),
        ("score: 4 \xb1 1", None),
        ("score: 4\xbd", None),
        ("score: 4 \xbd", None),
        ("score: 4 (or 5)", None),
    ],
)
def test_several_numbers_are_no_score(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 80 %", None),
        ("score: 4 percent", None),
        ("score: 4 per cent", None),
        ("score: 4\uff05", None),
        ("score: 4\u2030", None),
        ("score: 4/5%", None),
        ("score: 4?", None),
    ],
)
def test_a_percentage_or_a_question_is_no_score(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("I can't give score: 5", None),
        ("This does not deserve a score: 5.", None),
        ("It does not answer the question, so score: 1", 1),
        ("The answer is not complete. Score: 2", 2),
        ("Not good.\nscore: 1", 1),
        ("No, score: 2", 2),
        ("no score: 5", None),
        ("score: 5 would be too high", None),
        ("score: 5 is not deserved. score: 3", 3),
        ("I would not give score: 5. I give score: 3.", 3),
        ("I would not give it 5/5.", None),
        ("I would never give this 5 out of 5.", None),
        ("Maximum possible score: 5. Score: 2", 2),
        ("max_score: 5, score: 3", 3),
        ("Max score: 10\nFinal score: 3", None),
        ("Maximum score: 10. Score: 4", None),
        ("I give the maximum score: 5", 5),
        ("Lowest score: 0\nscore: 2", 2),
    ],
)
def test_a_statement_that_is_denied_or_names_a_limit_does_not_count(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"max_score": 5, "score": 3}', 3),
        ('{"max_score": 10, "score": 3}', None),
        ('{"score": 4, "out_of": 10}', None),
        ('{"score": [4, 5]}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        ('{"score": "4/10"}', None),
        ('{"score": "4/5"}', 4),
        ('{"score": "4 or 5"}', None),
        ('{"score": 4.5}', 4.5),
        ('{"score": 8}', None),
        ('{"Score": 4, "Reason": "good"}', 4),
        ('{"score": 4, "score": 2}', None),
        ('{"reason": "a score: 2 would be harsh", "score": 4}', 4),
        ('Here:\n```\n{"score": 4}\n```\nDone.', 4),
        ('Here:\n```json\n{"score": 4}\n```\nscore: 2', None),
        ('{"result": {"score": 4}}', 4),
        ('{"score": 4, "reason": "cut', 4),
        ("{'score': 4, 'reason': 'x'}", 4),
    ],
)
def test_the_score_of_a_json_object_is_read(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("score", "detail"),
    [("4", ""), ("NaN", "nan is not between 0 and 5"), ("Infinity", "inf is not between 0 and 5")],
)
def test_a_json_object_with_numbers_that_json_does_not_have_is_read(score: str, detail: str) -> None:
    parsed = parse_score(f'{{"score": {score}, "confidence": NaN, "reason": "good"}}', ADDITIVE_RUBRIC)
    assert (parsed.score, parsed.reason, parsed.detail) == (None if detail else 4, "good", detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Simplify 6/10 to 3/5.", None),
        ("The result is 3/5.", None),
        ("The probability is 3 out of 5.", None),
        ("Overall: 4/5", 4),
        ("Rating: 4/5", 4),
        ("My rating is 4 out of 5.", 4),
        ("I'd rate this answer 4/5.", 4),
        ("I would give it a solid 4 out of 5.", 4),
        ("Great answer! 4/5", 4),
        ("**4/5**", 4),
        ("(4/5) It is good", 4),
        ("Final verdict - 4/5", 4),
        ("The judge gives it 4/5.", 4),
        ("The success rate is 3/5.", None),
        ("Dividing by two would give 3/5.", None),
        ("I give 4/10.", None),
        ("4\uff0f5", 4),
        ("The correct answer: 3/5", None),
    ],
)
def test_a_fraction_counts_only_if_it_rates_the_answer(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("score: 4 - good", 4),
        ("score: 4 \u2013 good, 3 of 5", 4),
        ("score: 4, one point is missing", 4),
        ("score: 4 points", 4),
        ("score: 4 points, because", 4),
        ("score: 4 and it covers 3 topics", 4),
        ("score: 4, not 5", 4),
        ("score: 4 rather than 5", 4),
        ("score: 4 to be fair", 4),
        ("Score (out of 10): 4", None),
        ("Score (out of 5): 4", 4),
        ("Score (0-5): 4", 4),
        ("Score [1-10]: 4", None),
        ("Score (helpfulness): 4", None),
        ("score: 4 (it is good) 3 of 5", 4),
        ("score: _4_", 4),
        ("**Score: 4**Good", 4),
        ("score: 4_5", None),
        ("score: 4:30", None),
        ("score: 4 +1", 5),
        ("score: 4", 4),
        ("score: 4 out of", 4),
        ("score: \uff14", None),
        ("score: 4/\uff11\uff10", None),
        ("score: 4 of \uff11\uff10", None),
        ("score: -1", None),
        ("score: 4e0", None),
        ("score:4!", 4),
        ("score: 4 = 4", 4),
        ("score: 3 = 4", None),
        ("Score: 4 (out of 5), good", 4),
        ("Score: 4 (out of 5)\nGood.", 4),
        ("Score: 3/5 because 3 of 5 hold", 3),
    ],
)
def test_a_word_ends_the_score(text: str, score: float | None) -> None:
    parsed = parse_score(text, ADDITIVE_RUBRIC)
    assert parsed.score == score
    assert (score is None) == bool(parsed.detail)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Score: 1 + 1 = 2\nIt is short.", "It is short."),
        ("It is short. Score: 4 (out of 5).", "It is short."),
        ("Score: 4 (out of 5) Good.", "Good."),
        ('```json\n{"reason": "It is short.", "score": 4}\n```', "It is short."),
        ('{"score": 4, "comment": "It is short."}', "It is short."),
        ('{"score": 4}', ""),
        ("Score: 4 (it misses a point)", "(it misses a point)"),
    ],
)
def test_sum_scale_and_json_belong_to_the_score_and_not_to_the_reason(text: str, reason: str) -> None:
    assert parse_score(text, ADDITIVE_RUBRIC).reason == reason


HOSTILE = (
    "score: ", "score: 4 ", "score: 4, ", "score: 4~", "score: 4 (", "score: 1 + ", "score: 1 (", "score (", "1/5 ",
    "I give it ", "not give ", "1/", "max score: 4 ", "4 or ", "- ", "* ", "`", "9", ".9", " ", "\t ", "\n",
    "no, ", '"', '{"score":', "{", "[", "<think>", "</think>", "<", "[THINK]", "```", "`` ", "\u2581", "score: 4 of a ",
)  # fmt: skip


def test_replies_of_100_kilobytes_take_linear_time() -> None:
    """A quadratic pattern takes 10^10 steps for each of them. The time-out keeps it from blocking the tests."""
    program = """if True:
        import json, sys
        from tutelage import ADDITIVE_RUBRIC, parse_preference, parse_score
        for part in json.load(sys.stdin):
            reply = "score: 4" + part * (100_000 // len(part)) + "x"
            parse_score(reply, ADDITIVE_RUBRIC), parse_preference(reply)
            print("read")
    """
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=json.dumps(HOSTILE), text=True, stdout=subprocess.PIPE, timeout=100)
    assert done.stdout.split() == ["read"] * len(HOSTILE)


@pytest.mark.skipif(not CASES.is_file(), reason=f"the replies that were misread are not at {CASES}")
def test_every_reply_that_was_misread_has_its_score() -> None:
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 28
    wrong = [row for row in rows if parse_score(row["reply"], ADDITIVE_RUBRIC).score != row["score"]]
    assert wrong == []


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
