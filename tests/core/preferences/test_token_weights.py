"""Verdicts weighted by the probabilities of the token that states them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.preferences.token_weights import token_preference, verdict_alternatives, weighted_preference
from tutelage.preferences.verdict_parsing import parse_preference
from tutelage.records import Rubric

TOKENS = ("m", "M")
RUBRIC = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=TOKENS)


def log(**probabilities: float) -> list[tuple[str, float]]:
    return [(token, math.log(probability)) for token, probability in probabilities.items()]


def test_a_tie_counts_half_and_other_words_nothing() -> None:
    alternatives = log(first=0.2, tie=0.2, second=0.1, maybe=0.5)
    assert weighted_preference(alternatives) == pytest.approx((0.2 + 0.1) / 0.5)
    assert weighted_preference(log(maybe=1.0)) is None


def test_the_alternatives_after_better_are_those_of_the_verdict() -> None:
    tokens = [("better", []), (":", []), (" first", log(first=0.9, second=0.1)), (" because", log(so=1.0))]
    assert [word for word, _ in verdict_alternatives(tokens)] == ["first", "second"]


def test_the_two_tokens_share_the_probability_and_others_have_none() -> None:
    assert token_preference(log(M=0.6, m=0.2, The=0.2), TOKENS) == pytest.approx(0.25)
    assert token_preference(log(M=0.6, The=0.4), TOKENS) == 0.0
    assert token_preference(log(The=0.6), TOKENS) is None
    assert token_preference([], TOKENS) is None


def test_the_alternatives_of_a_reply_of_one_token_are_kept() -> None:
    assert verdict_alternatives([("M", [("M", -0.1), ("m", -2.0)])]) == [["M", -0.1], ["m", -2.0]]
    assert verdict_alternatives([("M", [("M", -0.1)]), (" is", [(" is", -0.1)])]) == []


@pytest.mark.parametrize(("reply", "preference"), [("m", 1.0), (" M\n", 0.0), ("mM", None), ("", None)])
def test_a_stated_token_is_read_as_it_is(reply: str, preference: float | None) -> None:
    assert parse_preference(reply, RUBRIC).preference == preference


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["m", "M", "The", " m"]), st.floats(-30, 0)), max_size=5))
def test_the_library_reads_the_same_from_the_same_reply(alternatives: Sequence[tuple[str, float]]) -> None:
    pytest.importorskip("alpaca_eval", reason="needs the extra alpacaeval", exc_type=ImportError)
    from tutelage.alpaca_eval.library import importing

    with importing():
        from alpaca_eval.completion_parsers import logprob_parser
    alternatives = list(dict(alternatives).items())
    top = [{"token": token, "logprob": value} for token, value in alternatives]
    completion = {"logprobs": {"content": [{"top_logprobs": top}]}}
    (theirs,) = logprob_parser(completion, "m", ["m", "M"], is_binarize=False)
    ours = token_preference(alternatives, TOKENS)
    assert math.isnan(theirs) if ours is None else theirs == pytest.approx(2 - ours)
