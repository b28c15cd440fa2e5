"""What becomes of a service's reply: scores and verdicts, whole or cut, in words or in one token."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC, parse_preference
from tutelage.records import Comparison, JudgeItem, Outcome, Rubric, Sampling, Verdict
from tutelage.services.caller import Caller
from tutelage.services.chat import VERDICT, ChatService, token_preference, verdict_alternatives
from tutelage.services.ledger import Ledger
from tutelage.services.requests import Endpoint, Reply

TOKENS = ("m", "M")
RUBRIC = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=TOKENS)


def log(**probabilities: float) -> list[tuple[str, float]]:
    return [(token, math.log(probability)) for token, probability in probabilities.items()]


Ask = Callable[..., Verdict]


def service_that_gives(reply: Reply, ledger: Path, log_probabilities: bool = True) -> ChatService:
    return ChatService(
        caller=Caller(Ledger(ledger)),
        endpoint=Endpoint("test", "http://127.0.0.1:9", "a model"),
        body=lambda question: {"system": question.system, "text": question.text},
        ask=lambda body, timeout: reply,
        log_probabilities=log_probabilities,
    )


@pytest.fixture
def verdict(tmp_path: Path) -> Ask:
    """The verdict of a service that gives this reply."""

    def ask(reply: Reply, log_probabilities: bool = True, rubric: Rubric = RUBRIC) -> Verdict:
        service = service_that_gives(reply, tmp_path / "ledger.db", log_probabilities)
        comparison = Comparison("c", "a question", "one answer", "another")
        (made,) = service.evaluate([comparison], rubric, Sampling(1.0, 1.0, 1))
        return made

    return ask


@pytest.mark.parametrize(
    ("text", "score", "outcome"), [("score: 4\nIt sa", 4.0, Outcome.ANSWERED), ("It says that", None, Outcome.CUT)]
)
def test_a_score_that_stands_before_the_cut_is_paid_for_and_counts(
    text: str, score: float | None, outcome: Outcome, tmp_path: Path
) -> None:
    service = service_that_gives(
        Reply(text, Outcome.CUT, "the answer reached its length limit"), tmp_path / "ledger.db"
    )
    (judged,) = service.judge([JudgeItem("i", "a question", "an answer")], ADDITIVE_RUBRIC, 1, Sampling())
    assert (judged.score, judged.outcome, judged.raw) == (score, outcome, text)
    assert bool(judged.detail) is (score is None)


def test_a_verdict_that_stands_before_the_cut_counts(verdict: Ask) -> None:
    stated = verdict(Reply("better: second\nIt sa", Outcome.CUT), rubric=PAIRWISE_RUBRIC)
    assert (stated.preference, stated.outcome) == (0.0, Outcome.ANSWERED)
    not_yet = verdict(Reply("It says", Outcome.CUT, "the answer reached its length limit"), rubric=PAIRWISE_RUBRIC)
    assert (not_yet.preference, not_yet.outcome) == (None, Outcome.CUT)


def test_the_two_tokens_share_the_probability_and_others_have_none() -> None:
    assert token_preference(log(M=0.6, m=0.2, The=0.2), TOKENS) == pytest.approx(0.25)
    assert token_preference(log(M=0.6, The=0.4), TOKENS) == 0.0
    assert token_preference(log(The=0.6), TOKENS) is None
    assert token_preference([], TOKENS) is None


def test_the_alternatives_of_a_reply_of_one_token_are_kept() -> None:
    assert verdict_alternatives([("M", [("M", -0.1), ("m", -2.0)])]) == [["M", -0.1], ["m", -2.0]]
    assert verdict_alternatives([("M", [("M", -0.1)]), (" is", [(" is", -0.1)])]) == []


def test_a_reply_that_its_one_token_cut_short_is_a_verdict_and_keeps_what_it_was_weighted_by(verdict: Ask) -> None:
    found = verdict(Reply("M", Outcome.CUT, extra={VERDICT: [["M", math.log(0.75)], ["m", math.log(0.25)]]}))
    assert found.outcome is Outcome.ANSWERED
    assert found.preference == pytest.approx(0.25)
    assert json.loads(found.raw) == {"text": "M", "alternatives": [["M", math.log(0.75)], ["m", math.log(0.25)]]}


def test_without_log_probabilities_there_is_no_weighted_verdict_and_by_request_the_stated_one(verdict: Ask) -> None:
    found = verdict(Reply("M", Outcome.CUT))
    assert (found.outcome, found.preference) == (Outcome.UNPARSED, None)
    assert "without log-probabilities" in found.detail
    assert verdict(Reply("M", Outcome.CUT), log_probabilities=False).preference == 0.0
    assert verdict(Reply("M is better"), log_probabilities=False).detail == "the reply is neither 'm' nor 'M'"


def test_a_token_that_names_no_answer_and_a_refusal_are_no_verdicts(verdict: Ask) -> None:
    found = verdict(Reply("The", Outcome.CUT, extra={VERDICT: [["The", -0.1]]}))
    assert (found.outcome, found.preference) == (Outcome.UNPARSED, None)
    refused = verdict(Reply("", Outcome.REFUSED, "blocked"))
    assert (refused.outcome, refused.preference, refused.detail) == (Outcome.REFUSED, None, "blocked")


@pytest.mark.parametrize(("reply", "preference"), [("m", 1.0), (" M\n", 0.0), ("mM", None), ("", None)])
def test_a_stated_token_is_read_as_it_is(reply: str, preference: float | None) -> None:
    assert parse_preference(reply, RUBRIC).preference == preference


@pytest.fixture(scope="module")
def library() -> Any:
    """The parser of verdicts by log-probabilities in the package ``alpaca_eval``."""
    pytest.importorskip("alpaca_eval", reason="needs the extra alpacaeval", exc_type=ImportError)
    from tutelage.alpaca_eval.library import importing

    with importing():
        from alpaca_eval.completion_parsers import logprob_parser
    return logprob_parser


@given(st.lists(st.tuples(st.sampled_from(["m", "M", "The", " m"]), st.floats(-30, 0)), max_size=5))
def test_the_library_reads_the_same_from_the_same_reply(
    library: Any, alternatives: Sequence[tuple[str, float]]
) -> None:
    alternatives = list(dict(alternatives).items())
    top = [{"token": token, "logprob": value} for token, value in alternatives]
    completion = {"logprobs": {"content": [{"top_logprobs": top}]}}
    (theirs,) = library(completion, "m", ["m", "M"], is_binarize=False)
    ours = token_preference(alternatives, TOKENS)
    assert math.isnan(theirs) if ours is None else theirs == pytest.approx(2 - ours)
