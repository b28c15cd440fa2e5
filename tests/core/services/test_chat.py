"""Scores and verdicts from the replies of a service: complete or cut, as text or as one token."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.records import Comparison, JudgeItem, Message, Outcome, Prompt, Rubric, Sampling, Verdict
from tutelage.services.caller import Caller
from tutelage.services.chat import VERDICT, ChatService, Question
from tutelage.services.ledger import Ledger
from tutelage.services.requests import Endpoint, Reply

TOKENS = ("m", "M")
RUBRIC = Rubric("letters", "{prompt} {first} {second}", 0.0, 1.0, tokens=TOKENS)


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
    """A function that returns the verdict for a given reply of the service."""

    def ask(reply: Reply, log_probabilities: bool = True, rubric: Rubric = RUBRIC) -> Verdict:
        service = service_that_gives(reply, tmp_path / "ledger.db", log_probabilities)
        comparison = Comparison("c", "a question", "one answer", "another")
        (result,) = service.evaluate([comparison], rubric, Sampling(1.0, 1.0, 1))
        return result

    return ask


@pytest.mark.parametrize(
    ("text", "score", "outcome"), [("score: 4\nIt sa", 4.0, Outcome.ANSWERED), ("It says that", None, Outcome.UNPARSED)]
)
def test_a_score_before_the_cut_counts(text: str, score: float | None, outcome: Outcome, tmp_path: Path) -> None:
    service = service_that_gives(
        Reply(text, Outcome.CUT, "the answer reached its length limit"), tmp_path / "ledger.db"
    )
    (judged,) = service.judge([JudgeItem("i", "a question", "an answer")], ADDITIVE_RUBRIC, 1, Sampling())
    assert (judged.score, judged.outcome, judged.raw) == (score, outcome, text)
    assert bool(judged.detail) is (score is None)


def test_a_verdict_before_the_cut_counts(verdict: Ask) -> None:
    stated = verdict(Reply("better: second\nIt sa", Outcome.CUT), rubric=PAIRWISE_RUBRIC)
    assert (stated.preference, stated.outcome) == (0.0, Outcome.ANSWERED)
    not_yet = verdict(Reply("It says", Outcome.CUT, "the answer reached its length limit"), rubric=PAIRWISE_RUBRIC)
    assert (not_yet.preference, not_yet.outcome) == (None, Outcome.UNPARSED)
    assert not_yet.detail == "the reply names neither answer; the answer reached its length limit"


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


CHAT = (
    Message("system", "Be brief."),
    Message("user", "Name a fruit."),
    Message("assistant", "Apple."),
    Message("user", "Another one?"),
)


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[Prompt], Question]:
    """A function that returns the question for a prompt, which must be the same for a candidate and a demonstration."""

    def ask(prompt: Prompt) -> Question:
        questions: list[Question] = []

        def body(question: Question) -> dict[str, str]:
            questions.append(question)
            return {"text": question.text}

        service = ChatService(
            caller=Caller(Ledger(tmp_path / "ledger.db")),
            endpoint=Endpoint("test", "http://127.0.0.1:9", "a model"),
            body=body,
            ask=lambda body, timeout: Reply("Pear."),
        )
        assert [answer.text for answer in service.generate_candidates([prompt], 1, Sampling())] == ["Pear."]
        assert [answer.text for answer in service.demonstrate([prompt], Sampling())] == ["Pear."]
        assert questions[0] == questions[1]
        return questions[0]

    return ask


def test_a_question_carries_the_system_message_and_every_turn(asked: Callable[[Prompt], Question]) -> None:
    question = asked(Prompt.of_messages(CHAT))
    assert (question.system, question.turns) == ("Be brief.", CHAT[1:])
    assert question.text == "User: Name a fruit.\n\nAssistant: Apple.\n\nUser: Another one?"


def test_a_system_message_and_one_turn_are_a_question_with_both(
    asked: Callable[[Prompt], Question],
) -> None:
    question = asked(Prompt.of_messages(CHAT[:2]))
    assert (question.system, question.text, question.messages) == ("Be brief.", "Name a fruit.", ())


def test_a_prompt_of_one_turn_is_the_question_that_it_always_was(asked: Callable[[Prompt], Question]) -> None:
    assert asked(Prompt("Why?")) == Question("Why?", Sampling(), 0, 256, False, "")
