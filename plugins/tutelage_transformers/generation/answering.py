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
from tutelage_transformers.generation.dispatch import completer_for
from tutelage_transformers.generation.engine import Completion
from tutelage_transformers.settings import TransformersSettings, settings_of

T = TypeVar("T")

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

    Stops early if the user cancels. Raises ``InputError`` if the model cannot be loaded, and ``StageError`` if it gives
    logits that are not finite, of which no completion can be made.
    """
    settings = settings_of(context)
    complete = completer_for(model, settings)
    remaining = iter(prompts)
    size = WINDOW * len(parallel.device_names(settings))
    while window := list(islice(remaining, size)):
        seeds = [context.seeds.get(_id_of(key), sampling.seed) for key, _ in window]
        for batch in complete([message_rows(messages) for _, messages in window], n, sampling, seeds):
            for completion in batch:
                if not completion.is_finite:
                    raise _not_finite(model, window[completion.prompt][0], completion, settings)
            context.advance(len(batch))
            yield from ((window[completion.prompt][0], completion) for completion in batch)
            if context.cancelled():
                return


def _id_of(key: object) -> str:
    """Return the id of the prompt, item or comparison that a completion is for."""
    return key.id if isinstance(key, Prompt) else str(key)


def _not_finite(model: Model, key: object, completion: Completion, settings: TransformersSettings) -> StageError:
    attention = "" if settings.attention == "eager" else ", settings.attention eager"
    return StageError(
        f"plugin transformers, model {model.name}: its logits are NaN or infinite after {completion.tokens} new tokens "
        f"for {_id_of(key)} (sample {completion.sample}), so there is no answer. Check that its weights are finite and "
        f"whole; try settings.dtype float32{attention}"
    )


def outcome_of(completion: Completion) -> tuple[Outcome, str]:
    """Return the outcome of a completion and, unless it is complete, the reason."""
    if not completion.fits:
        return Outcome.FAILED, "the prompt leaves no room for an answer in the model's context"
    if not completion.ended:
        return Outcome.CUT, f"reached the limit of {completion.tokens} new tokens"
    return Outcome.ANSWERED, ""
