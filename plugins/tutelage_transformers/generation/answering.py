"""Candidates and demonstrations: prompts completed by the student through its chat template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from tutelage.context import Context
from tutelage.errors import StageError
from tutelage.files.trl_format import message_rows
from tutelage.records import Candidate, Demonstration, Message, Model, Outcome, Prompt, Sampling
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation.dispatch import completer_for, weigher_for
from tutelage_transformers.generation.engine import Completion
from tutelage_transformers.generation.weighing import ReplyProbabilities
from tutelage_transformers.models import loading
from tutelage_transformers.settings import TransformersSettings, settings_of

T = TypeVar("T")
Asked = TypeVar("Asked")

NO_ROOM = "the prompt leaves no room for an answer in the model's context"

WINDOW = 4096
"""Number of prompts per device that are read, and sorted by length, at once: enough for full batches, with little
memory."""


def candidates(
    model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling, context: Context
) -> Iterator[Candidate]:
    """Answer each prompt n times.

    Raises ``InputError`` if the model cannot be loaded, or if its chat template cannot render a prompt.
    """
    for prompt, completion in completions(model, ((prompt, prompt.turns) for prompt in prompts), n, sampling, context):
        outcome, detail = outcome_of(completion)
        yield Candidate(prompt.id, completion.sample, completion.text, outcome, detail, completion.tokens)


def demonstrations(
    model: Model, prompts: Iterable[Prompt], sampling: Sampling, context: Context
) -> Iterator[Demonstration]:
    """Answer each prompt once. Raises ``InputError`` as ``candidates`` does."""
    for prompt, completion in completions(model, ((prompt, prompt.turns) for prompt in prompts), 1, sampling, context):
        outcome, detail = outcome_of(completion)
        yield Demonstration(prompt.id, completion.text, outcome, detail)


def completions(
    model: Model, prompts: Iterable[tuple[T, Sequence[Message]]], n: int, sampling: Sampling, context: Context
) -> Iterator[tuple[T, Completion]]:
    """Complete each (key, messages) n times and yield (key, completion) as batches finish.

    The same messages with the same seed have the same completions, so they are completed once per window. A student
    often gives the same answer several times, and each of these answers is judged.

    Stops early if the user cancels. Raises ``InputError`` if the model cannot be loaded, and ``StageError`` if it gives
    logits that are not finite, of which no completion can be made.
    """
    settings = settings_of(context)
    complete = completer_for(model, settings)
    for window in windows(prompts, settings):
        keys_of: dict[tuple[tuple[Message, ...], int], list[T]] = {}
        for key, messages in window:
            seed = context.seeds.get(_id_of(key), sampling.seed)
            keys_of.setdefault((tuple(messages), seed), []).append(key)
        conversations, seeds = [message_rows(messages) for messages, _ in keys_of], [seed for _, seed in keys_of]
        keys = list(keys_of.values())
        for batch in complete(conversations, n, sampling, seeds, context.partial):
            for completion in batch:
                if not completion.is_finite:
                    key = keys[completion.prompt][0]
                    where = f"after {completion.tokens} new tokens for {_id_of(key)} (sample {completion.sample})"
                    raise _not_finite(model, where, settings)
            completed = [(key, completion) for completion in batch for key in keys[completion.prompt]]
            context.advance(len(completed))
            yield from completed
            if context.cancelled():
                return


def reply_probabilities(
    model: Model, prompts: Iterable[tuple[T, Sequence[Message]]], replies: Sequence[str], context: Context
) -> Iterator[tuple[T, ReplyProbabilities]]:
    """Yield (key, probabilities of the last token of each of ``replies``) for each of (key, messages).

    Nothing is decoded. Stops early if the user cancels, and raises as ``completions`` does. Raises ``InputError`` if
    the replies do not differ in their last token alone.
    """
    settings = settings_of(context)
    weigh = weigher_for(model, settings)
    for window in windows(prompts, settings):
        for batch in weigh([message_rows(messages) for _, messages in window], replies):
            for found in batch:
                if not found.is_finite:
                    raise _not_finite(model, f"at the score of {_id_of(window[found.prompt][0])}", settings)
            context.advance(len(batch))
            yield from ((window[found.prompt][0], found) for found in batch)
            if context.cancelled():
                return


def windows(prompts: Iterable[Asked], settings: TransformersSettings) -> Iterator[list[Asked]]:
    """Yield prompts, items or comparisons in parts that are read at once."""
    remaining = iter(prompts)
    size = WINDOW * len(parallel.device_names(settings))
    while window := list(islice(remaining, size)):
        yield window


def _id_of(key: object) -> str:
    """Return the id of the prompt, item or comparison that a completion is for."""
    return key.id if isinstance(key, Prompt) else str(key)


def _not_finite(model: Model, where: str, settings: TransformersSettings) -> StageError:
    attention = "" if loading.uses_eager(model, settings) else ", settings.attention eager"
    return StageError(
        f"plugin transformers, model {model.name}: its logits are NaN or infinite {where}, so there is no answer. "
        f"Check that its weights are finite and whole; try settings.dtype float32{attention}"
    )


def outcome_of(completion: Completion) -> tuple[Outcome, str]:
    """Return the outcome of a completion and, unless it is complete, the reason."""
    if not completion.fits:
        return Outcome.FAILED, NO_ROOM
    if not completion.ended:
        return Outcome.CUT, f"reached the limit of {completion.tokens} new tokens"
    return Outcome.ANSWERED, ""
