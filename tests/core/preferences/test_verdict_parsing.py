"""The verdict that an evaluator's reply states, or the reason why it states none."""

from __future__ import annotations

import pytest

from tutelage.preferences.judging import PAIRWISE_RUBRIC
from tutelage.preferences.verdict_parsing import ParsedPreference, parse_preference
from tutelage.records import Rubric

LETTERS = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=("m", "M"))


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("better: first", 1.0),
        ("**Better:** second\nIt is shorter.", 0.0),
        ("Better = TIE", 0.5),
        ("better: first better: first", 1.0),
        ("better: first better: second", None),
        ("The first one.", None),
        ("better: firstly", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_it_is_none(text: str, preference: float | None) -> None:
    parsed = parse_preference(text)
    assert parsed.preference == preference
    assert (preference is None) == bool(parsed.detail)


@pytest.mark.parametrize(("reply", "preference"), [("m", 1.0), (" M\n", 0.0), ("<think>M</think>\nm", 1.0)])
def test_a_stated_token_is_read_as_it_is(reply: str, preference: float) -> None:
    assert parse_preference(reply, LETTERS) == ParsedPreference(preference)


@pytest.mark.parametrize("reply", ["mM", "first", "better: first", ""])
def test_a_reply_that_is_neither_token_of_the_rubric_has_no_verdict(reply: str) -> None:
    assert parse_preference(reply, LETTERS) == ParsedPreference(None, reply, "the reply is neither 'm' nor 'M'")


@pytest.mark.parametrize("rubric", [LETTERS, PAIRWISE_RUBRIC])
def test_a_reply_that_ends_within_its_thoughts_has_no_verdict(rubric: Rubric) -> None:
    parsed = parse_preference("<think>\nm better: first", rubric)
    assert (parsed.preference, parsed.reason) == (None, "")
    assert "think" in parsed.detail


@pytest.mark.parametrize(
    ("reply", "parsed"),
    [
        ("Better: second\nIt is shorter.", ParsedPreference(0.0, "It is shorter.")),
        ("It is shorter.\nbetter: second", ParsedPreference(0.0, "It is shorter.")),
        (" It is shorter. ", ParsedPreference(None, "It is shorter.", "the reply names neither answer")),
        (
            "better: tie or better: first",
            ParsedPreference(None, "or better: first", "the reply contradicts itself: first, tie"),
        ),
    ],
)
def test_the_text_beside_the_verdict_is_the_reason(reply: str, parsed: ParsedPreference) -> None:
    assert parse_preference(reply) == parsed
