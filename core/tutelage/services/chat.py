"""The stages of a chat service: what is left to a plugin is how its protocol spells a question and an answer.

A plugin that calls an API makes a ``ChatService``; ``ChatHooks`` makes the hooks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import field, frozen

from tutelage.preferences.judging import render, render_comparison
from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
)
from tutelage.services.caller import Caller
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Request

VERDICT = "verdict"
"""The key of ``Reply.extra`` under which a plugin keeps ``verdict_alternatives``."""

_SAMPLES_PER_SEED = 1000


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
            yield judgement_from_reply(item_id, sample, answer.reply, rubric)

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
            alternatives = answer.reply.extra.get(VERDICT, ())
            yield verdict_from_reply(answer.about, answer.reply, rubric, alternatives, self.log_probabilities)

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
