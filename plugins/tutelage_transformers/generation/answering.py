"""Candidates and demonstrations: prompts asked through the chat template and the generation engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from tutelage.context import Context
from tutelage.records import Candidate, Demonstration, Model, Outcome, Prompt, Sampling
from tutelage_transformers.generation.asking import asking
from tutelage_transformers.generation.engine import Reply
from tutelage_transformers.settings import settings_of

T = TypeVar("T")

WINDOW = 4096
"""Questions that are read, and sorted by length, at once: enough for full batches, little enough for flat memory."""


def candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt n times. Raises ``InputError`` where the model cannot be loaded."""
    for prompt, reply in replies(model, ((prompt, prompt.text) for prompt in prompts), n, sampling, context):
        outcome, detail = outcome_of(reply)
        yield Candidate(prompt.id, reply.sample, reply.text, outcome, detail, reply.tokens)


def demonstrations(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once. Raises ``InputError`` where the model cannot be loaded."""
    for prompt, reply in replies(model, ((prompt, prompt.text) for prompt in prompts), 1, sampling, context):
        outcome, detail = outcome_of(reply)
        yield Demonstration(prompt.id, reply.text, outcome, detail)


def replies(
    model: Model, questions: Iterable[tuple[T, str]], n: int, sampling: Sampling, context: Context
) -> Iterator[tuple[T, Reply]]:
    """Ask each (key, text) n times and yield (key, reply) as batches finish; stops early where the user cancels."""
    settings = settings_of(context)
    ask = asking(model, settings)
    questions = iter(questions)
    while window := list(islice(questions, WINDOW)):
        for batch in ask([text for _, text in window], n, sampling):
            context.advance(len(batch))
            yield from ((window[reply.prompt][0], reply) for reply in batch)
            if context.cancelled():
                return


def outcome_of(reply: Reply) -> tuple[Outcome, str]:
    """Whether the reply is whole, and where it is not, why."""
    if not reply.fits:
        return Outcome.FAILED, "the prompt leaves no room for an answer in the model's context"
    if not reply.ended:
        return Outcome.CUT, f"reached the limit of {reply.tokens} new tokens"
    return Outcome.ANSWERED, ""
