"""Verdicts weighted by the probabilities of the token that states them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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


SPELLINGS = ("{}", " {}", "\n{}", "\u2581{}", "\u0120{}", "\u010a{}", "\u2581\u2581{}", "{} ", "<0x0A>{}")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_is_found_in_every_spelling(spelling: str) -> None:
    m, capital = spelling.format("m"), spelling.format("M")
    assert token_preference(log(**{m: 0.2, capital: 0.6, "The": 0.2}), TOKENS) == pytest.approx(0.25)
    assert verdict_alternatives([(capital, [(capital, -0.1)])]) == [[capital, -0.1]]
    assert (parse_preference(m, RUBRIC).preference, parse_preference(capital, RUBRIC).preference) == (1.0, 0.0)
    assert token_preference(log(**{spelling.format("mm"): 0.9}), TOKENS) is None


@pytest.mark.parametrize("spelling", SPELLINGS[1:])
def test_the_probabilities_of_several_spellings_of_a_token_are_added(spelling: str) -> None:
    alternatives = log(**{"m": 0.1, spelling.format("m"): 0.2, spelling.format("M"): 0.5, "M": 0.1, "The": 0.1})
    assert token_preference(alternatives, TOKENS) == pytest.approx(0.3 / 0.9)


def test_a_token_of_the_rubric_that_is_written_with_a_mark_is_found() -> None:
    assert token_preference(log(**{"\u2581m": 0.2, "\u2581M": 0.6}), ("\u2581m", "\u2581M")) == pytest.approx(0.25)


M = [("M", -0.1), ("m", -2.0)]
FOUND = [["M", -0.1], ["m", -2.0]]
OTHER = [("?", -0.5)]


@pytest.mark.parametrize(
    "tokens",
    [
        [("\u2581", OTHER), ("M", M)],
        [("\n\n", OTHER), ("\u0120M", M)],
        [("M", M), ("</s>", OTHER)],
        [("M", M), ("\n", OTHER), ("<|im_end|>", OTHER)],
        [("<think>", OTHER), ("m", OTHER), ("</think>", OTHER), ("\u010a\u010a", OTHER), ("M", M)],
        [
            ("<", OTHER),
            ("think", OTHER),
            (">\n", OTHER),
            ("m", OTHER),
            ("</", OTHER),
            ("think", OTHER),
            (">\n\n", OTHER),
            ("M", M),
        ],
        [("[THINK]", OTHER), ("m", OTHER), ("[/THINK]", OTHER), ("M", M)],
    ],
)
def test_blank_tokens_end_tokens_and_thinking_blocks_are_skipped(tokens: list[Any]) -> None:
    assert verdict_alternatives(tokens) == FOUND


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [("<think>", OTHER), ("M", M)],
        [("M", M), ("m", M)],
        [("<think>", OTHER), ("m", OTHER), ("</think>", OTHER), ("M", M), (" is", OTHER)],
        [("<think>", OTHER), ("better: first", OTHER)],
    ],
)
def test_a_reply_of_several_tokens_or_within_its_thoughts_has_no_position(tokens: list[Any]) -> None:
    assert verdict_alternatives(tokens) == []


def test_the_position_after_better_is_that_after_the_thinking_block_in_every_spelling() -> None:
    thoughts = [("<think>", OTHER), ("better", OTHER), (":", OTHER), (" second", OTHER), ("</think>", OTHER)]
    for blank in (" ", "\u2581", "\u0120"):
        first = [(f"{blank}first", -0.1), (f"{blank}second", -2.3)]
        tokens = [*thoughts, ("better", OTHER), (":", OTHER), (f"{blank}first", first), ("\u010a", OTHER)]
        found = verdict_alternatives(tokens)
        assert found == [list(one) for one in first]
        assert weighted_preference(found) == pytest.approx(math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.3)))


@pytest.mark.parametrize("value", [math.nan, math.inf, 5.0, 10**400, -(10**400), None, "-0.1", True])
def test_a_value_that_is_no_log_probability_counts_as_nothing(value: Any) -> None:
    assert token_preference([("m", value)], TOKENS) is None
    assert token_preference([("m", value), ("M", -0.5)], TOKENS) == 0.0
    assert weighted_preference([("first", value), ("second", -0.5)]) == 0.0
    assert token_preference([("m", 1e-7), ("M", -math.inf)], TOKENS) == 1.0


def test_a_log_probability_that_rounding_has_put_above_0_is_that_of_certainty() -> None:
    assert token_preference([("m", 0.01), ("M", 0.0)], TOKENS) == 0.5
    assert token_preference([("m", 0.011), ("M", 0.0)], TOKENS) == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["m", "M", "The", "mm", "n"]), st.floats(-30, 0)), max_size=5))
def test_the_library_reads_the_same_from_the_same_reply_without_marks(
    alternatives: Sequence[tuple[str, float]],
) -> None:
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
