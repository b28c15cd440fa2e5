"""The stages of a chat service. A plugin adds only the format of the requests and replies of its protocol.

A plugin that calls an API makes a ``ChatService``; ``ChatHooks`` implements the plugin's hooks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.preferences.judging import question_messages, render, render_comparison
from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Message,
    Prompt,
    Rubric,
    Sampling,
    Verdict,
    conversation_text,
    is_one_turn,
)
from tutelage.services.batch_service import BatchService
from tutelage.services.caller import Caller
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Request

VERDICT = "verdict"
"""The key of ``Reply.extra`` under which a plugin keeps ``verdict_alternatives``."""

_SAMPLES_PER_SEED = 1000


@frozen
class Question:
    """A question to a chat model, as one message or as a conversation, with the parameters of its answer."""

    text: str
    """The message; the transcript of a conversation, without its system message."""
    sampling: Sampling
    sample: int = 0
    """A number that differs between the samples of one question and between seeds. A protocol with a seed sends it as
    the seed."""
    max_tokens: int = 256
    """Maximum number of tokens of the reply, including the thoughts of a reasoning model."""
    log_probabilities: bool = False
    """Whether to request the log-probabilities of the tokens, if the service has them."""
    system: str = ""
    """The system message; empty for none."""
    messages: tuple[Message, ...] = ()
    """The messages of a conversation, without its system message; empty for a single user message."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages to send after the system message: those of the conversation, or one user message."""
        return self.messages or (Message("user", self.text),)


@frozen
class ChatService:
    """A model behind an API, with the stages except training."""

    caller: Caller
    endpoint: Endpoint
    body: Callable[[Question], Mapping[str, Any]]
    """Returns the exact request for a question, as plain JSON values."""
    ask: Ask
    limits: Limits = field(factory=Limits)
    thinking_tokens: int = 0
    """Number of tokens for the thoughts of a reasoning model, in addition to the maximum length of the answer."""
    log_probabilities: bool = True
    """Whether comparisons request the log-probabilities of the tokens and are weighted by them."""
    batches: BatchService | None = None
    """The batch endpoint, for the stages in ``BATCH_STAGES``; None if each request is sent by itself."""

    def generate_candidates(self, prompts: Iterable[Prompt], n: int, sampling: Sampling) -> Iterator[Candidate]:
        """Answer each prompt ``n`` times. Each answer is a separate request, because many servers ignore a count."""
        requests = (
            self._request((prompt.id, index), prompt.turns, sampling, index) for prompt in prompts for index in range(n)
        )
        for answer in self._answers(requests):
            (prompt_id, index), reply = answer.about, answer.reply
            yield Candidate(prompt_id, index, reply.text, reply.outcome, reply.detail, reply.output_tokens)

    def demonstrate(self, prompts: Iterable[Prompt], sampling: Sampling) -> Iterator[Demonstration]:
        """Answer each prompt once."""
        requests = (self._request(prompt.id, prompt.turns, sampling) for prompt in prompts)
        for answer in self._answers(requests, self.batches):
            yield Demonstration(answer.about, answer.reply.text, answer.reply.outcome, answer.reply.detail)

    def judge(
        self, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling
    ) -> Iterator[Judgement]:
        """Judge each item ``samples`` times with the rubric's prompt. Only the judge's reply is parsed."""
        requests = (
            self._request((item.id, sample), question_messages(rubric, render(rubric, item)), sampling, sample)
            for item in items
            for sample in range(samples)
        )
        for answer in self._answers(requests, self.batches):
            item_id, sample = answer.about
            yield judgement_from_reply(item_id, sample, answer.reply, rubric)

    def evaluate(self, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling) -> Iterator[Verdict]:
        """Judge each comparison once, in its own order, weighted by log-probabilities if the reply has them.

        If the rubric is answered by one token and log-probabilities are requested, a reply without them gives no
        verdict, because the token alone would be another measure.
        """
        requests = (
            self._request(
                comparison.id,
                question_messages(rubric, render_comparison(rubric, comparison)),
                sampling,
                log_probabilities=self.log_probabilities,
            )
            for comparison in comparisons
        )
        for answer in self._answers(requests, self.batches):
            alternatives = answer.reply.extra.get(VERDICT, ())
            yield verdict_from_reply(answer.about, answer.reply, rubric, alternatives, self.log_probabilities)

    def _request(
        self,
        about: Any,
        messages: Sequence[Message],
        sampling: Sampling,
        index: int = 0,
        log_probabilities: bool = False,
    ) -> Request[Any]:
        seed = sampling.seed if sampling.temperature > 0 else 0  # a greedy answer is the same for every seed
        sample = seed * _SAMPLES_PER_SEED + index
        max_tokens = sampling.max_new_tokens + self.thinking_tokens
        system, turns = _split_system(messages)
        text, several = conversation_text(turns), () if is_one_turn(turns) else turns
        body = self.body(Question(text, sampling, sample, max_tokens, log_probabilities, system, several))
        return Request(about, body, sample, max_tokens)

    def _answers(self, requests: Iterable[Request[Any]], batches: BatchService | None = None) -> Iterator[Answer[Any]]:
        if batches is not None:
            return self.caller.map_in_batches(requests, batches, self.endpoint, self.limits)
        return self.caller.map(requests, self.ask, self.endpoint, self.limits)


def _split_system(messages: Sequence[Message]) -> tuple[str, tuple[Message, ...]]:
    """The text of the system message (empty for none), and the other messages."""
    if messages[0].role == "system":
        return messages[0].content, tuple(messages[1:])
    return "", tuple(messages)
