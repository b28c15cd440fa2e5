"""The stages of a chat service: what is left to a plugin is how its protocol spells a question and an answer.

A plugin that calls an API makes a ``ChatService``; ``ChatHooks`` makes the hooks of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.preferences.judging import parse_preference, parse_score, render, render_comparison
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Outcome,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)
from tutelage.services.caller import Caller
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Reply, Request

VERDICT = "verdict"
"""The key of ``Reply.extra`` under which a plugin keeps ``verdict_alternatives``."""

_SAMPLES_PER_SEED = 1000
_BEFORE_VERDICT = re.compile(r"better\W*$", re.IGNORECASE)
_WORTH = {"first": 1.0, "second": 0.0, "tie": 0.5}

Alternatives = Sequence[tuple[str, float]]
"""Tokens that could stand at one place of a reply, each with its log-probability (natural logarithm)."""


@frozen
class Question:
    """One message to a chat model, and how it is to be answered."""

    text: str
    sampling: Sampling
    sample: int = 0
    """Differs between the samples of one question and between seeds; a protocol with a seed sends it as that."""
    max_tokens: int = 256
    """Length limit of the reply, with the thoughts of a reasoning model."""
    log_probabilities: bool = False
    """Whether the tokens' log-probabilities are wanted, where the service gives them."""
    system: str = ""
    """The system message, where there is one."""


@frozen
class ChatService:
    """A model behind an API, as the stages use it."""

    caller: Caller
    endpoint: Endpoint
    body: Callable[[Question], Mapping[str, Any]]
    """The exact request for a question, in plain JSON values."""
    ask: Ask
    limits: Limits = field(factory=Limits)
    thinking_tokens: int = 0
    """Room for the thoughts of a reasoning model, on top of the answer's length limit."""
    log_probabilities: bool = True
    """Whether comparisons ask for the tokens' log-probabilities, to be weighted by them."""

    def generate_candidates(self, prompts: Iterable[Prompt], n: int, sampling: Sampling) -> Iterator[Candidate]:
        """Each prompt ``n`` times, each as a request of its own (many servers ignore a count)."""
        requests = (
            self._request((prompt.id, index), prompt.text, sampling, index) for prompt in prompts for index in range(n)
        )
        for answer in self._answers(requests):
            (prompt_id, index), reply = answer.about, answer.reply
            yield Candidate(prompt_id, index, reply.text, reply.outcome, reply.detail, reply.output_tokens)

    def demonstrate(self, prompts: Iterable[Prompt], sampling: Sampling) -> Iterator[Demonstration]:
        """One answer a prompt."""
        requests = (self._request(prompt.id, prompt.text, sampling) for prompt in prompts)
        for answer in self._answers(requests):
            yield Demonstration(answer.about, answer.reply.text, answer.reply.outcome, answer.reply.detail)

    def judge(
        self, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling
    ) -> Iterator[Judgement]:
        """Each item ``samples`` times, by the rubric's prompt; only the judge's reply is parsed."""
        requests = (
            self._request((item.id, sample), render(rubric, item), sampling, sample, system=rubric.system)
            for item in items
            for sample in range(samples)
        )
        for answer in self._answers(requests):
            item_id, sample = answer.about
            yield _judgement(item_id, sample, answer.reply, rubric)

    def evaluate(self, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling) -> Iterator[Verdict]:
        """Each comparison once, in its own order; weighted by log-probabilities where the service gave them.

        Where the rubric is answered by one token and log-probabilities are asked for, a reply without them is no
        verdict: the token alone would be another measure.
        """
        requests = (
            self._request(
                comparison.id, render_comparison(rubric, comparison), sampling, 0, self.log_probabilities, rubric.system
            )
            for comparison in comparisons
        )
        for answer in self._answers(requests):
            if rubric.tokens:
                yield _token_verdict(answer.about, answer.reply, rubric, rubric.tokens, self.log_probabilities)
            else:
                yield _verdict(answer.about, answer.reply)

    def _request(
        self,
        about: Any,
        text: str,
        sampling: Sampling,
        index: int = 0,
        log_probabilities: bool = False,
        system: str = "",
    ) -> Request[Any]:
        seed = sampling.seed if sampling.temperature > 0 else 0  # a greedy answer is the same for every seed
        sample = seed * _SAMPLES_PER_SEED + index
        max_tokens = sampling.max_new_tokens + self.thinking_tokens
        body = self.body(Question(text, sampling, sample, max_tokens, log_probabilities, system))
        return Request(about, body, sample, max_tokens)

    def _answers(self, requests: Iterable[Request[Any]]) -> Iterator[Answer[Any]]:
        return self.caller.map(requests, self.ask, self.endpoint, self.limits)


def verdict_alternatives(tokens: Iterable[tuple[str, Alternatives]]) -> list[list[Any]]:
    """Of a reply's tokens, each with its alternatives, those at the place where "better: ..." says which one it is.

    Of a reply that is one token, it is that one. Plain JSON values for ``Reply.extra[VERDICT]``; empty where the reply
    has no such place. Only this place is kept: all alternatives of a reply would be a hundred times its text.
    """
    places = list(tokens)
    if len(places) == 1:
        return [[word, log_probability] for word, log_probability in places[0][1]]
    before = ""
    for token, alternatives in places:
        if _BEFORE_VERDICT.search(before) and _side(token) is not None:
            return [[word, log_probability] for word, log_probability in alternatives]
        before += token
    return []


def weighted_preference(alternatives: Iterable[Sequence[Any]]) -> float | None:
    """Probability that the first answer is the better one, from the tokens that could have named it.

    Their probabilities are normalised over first, second and tie, and a tie counts half, as in G-Eval's weighting of
    scores by token probabilities (Liu et al., 2023, section 2); None where no token names any of the three.
    """
    weights = dict.fromkeys(_WORTH, 0.0)
    for token, log_probability in alternatives:
        if (side := _side(token)) is not None:
            weights[side] += math.exp(log_probability)
    total = sum(weights.values())
    return sum(_WORTH[side] * weight for side, weight in weights.items()) / total if total > 0 else None


def token_preference(alternatives: Iterable[Sequence[Any]], tokens: tuple[str, str]) -> float | None:
    """Probability of the first of two tokens against the second, from what could have stood there.

    A token that is not among the alternatives has probability 0; None where neither is. AlpacaEval 2.0 weights its
    verdicts so (alpaca_eval 0.6.6, ``completion_parsers.logprob_parser``).
    """
    weights = dict.fromkeys(tokens, 0.0)
    for token, log_probability in alternatives:
        if token in weights:
            weights[token] = math.exp(log_probability)
    total = sum(weights.values())
    return weights[tokens[0]] / total if total > 0 else None


def _side(token: str) -> str | None:
    """first, second or tie where a token begins one of these words; they differ in their first letter."""
    letters = token.strip(" \t\r\n*_`\"'").lower()
    return next((side for side in _WORTH if letters and side.startswith(letters)), None)


def _judgement(item_id: str, sample: int, reply: Reply, rubric: Rubric) -> Judgement:
    """The score that the reply states. One that stands before a cut is as good as that of a whole reply."""
    if not reply.outcome.has_text:
        return Judgement(item_id, sample, None, reply.outcome, raw=reply.text, detail=reply.detail)
    parsed = parse_score(reply.text, rubric)
    outcome, detail = _read(reply, parsed.score is not None, parsed.detail)
    return Judgement(item_id, sample, parsed.score, outcome, parsed.reason, reply.text, detail)


def _verdict(comparison_id: str, reply: Reply) -> Verdict:
    """The stated verdict; where there are log-probabilities, the weight that it was given."""
    if not reply.outcome.has_text:
        return Verdict(comparison_id, None, reply.outcome, reply.text, reply.detail)
    parsed = parse_preference(reply.text)
    outcome, detail = _read(reply, parsed.preference is not None, parsed.detail)
    weighted = None if parsed.preference is None else weighted_preference(reply.extra.get(VERDICT, ()))
    return Verdict(comparison_id, parsed.preference if weighted is None else weighted, outcome, reply.text, detail)


def _read(reply: Reply, found: bool, why_not: str) -> tuple[Outcome, str]:
    """Outcome and detail of a reply in which a score or a verdict was looked for."""
    if found:
        return Outcome.ANSWERED, ""
    return (Outcome.CUT, reply.detail) if reply.outcome is Outcome.CUT else (Outcome.UNPARSED, why_not)


def _token_verdict(
    comparison_id: str, reply: Reply, rubric: Rubric, tokens: tuple[str, str], log_probabilities: bool
) -> Verdict:
    """The verdict of a reply that is one token; its ``raw`` is JSON, with the alternatives that it was weighted by."""
    if not reply.outcome.has_text:
        return Verdict(comparison_id, None, reply.outcome, reply.text, reply.detail)
    alternatives = reply.extra.get(VERDICT, [])
    raw = json.dumps({"text": reply.text, "alternatives": alternatives}, ensure_ascii=False)
    if not log_probabilities:
        parsed = parse_preference(reply.text, rubric)
        preference, detail = parsed.preference, parsed.detail
    elif alternatives:
        preference = token_preference(alternatives, tokens)
        detail = "" if preference is not None else f"neither {tokens[0]!r} nor {tokens[1]!r} is among the likely tokens"
    else:
        preference, detail = None, "the reply came without log-probabilities, by which this rubric is weighted"
    if preference is None:
        return Verdict(comparison_id, None, Outcome.UNPARSED, raw, detail)
    return Verdict(comparison_id, preference, Outcome.ANSWERED, raw)
