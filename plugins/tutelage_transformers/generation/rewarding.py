"""A reward model as judge: a classifier with one label, whose logit for a whole conversation is the score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from tutelage.context import Context
from tutelage.errors import InputError, StageError
from tutelage.files.trl_format import message_rows
from tutelage.records import Comparison, JudgeItem, Judgement, Message, Model, Outcome, Rubric, Verdict
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation import dispatch
from tutelage_transformers.generation.answering import windows
from tutelage_transformers.models import loading, rewards
from tutelage_transformers.models.chat import answer_text, encode, prompt_text
from tutelage_transformers.models.loading import LoadedModel, context_length
from tutelage_transformers.settings import settings_of

BATCH = 16
"""Number of conversations per batch if ``settings.batch_size`` is left out."""
TOO_LONG = "the prompt and the answer are longer than the model's context"


def is_reward_model(model: Model, context: Context) -> bool:
    """Return whether a model is a classifier. Raises ``InputError`` if it does not exist."""
    return rewards.is_reward_model(loading.location(model), settings_of(context).local_files_only)


def judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, context: Context
) -> Iterator[Judgement]:
    """Score each item by the logit of its prompt and answer. All samples of an item are equal.

    Raises ``InputError`` if the scale of the rubric has limits, and ``StageError`` if a logit is not finite.
    """
    if rubric.is_bounded:
        raise InputError(rubric_problem(rubric))
    for window in windows(items, settings_of(context)):
        conversations = [(*item.turns, Message("assistant", item.answer)) for item in window]
        for index, score in _scores(model, conversations, context):
            for sample in range(samples):
                yield _judgement(window[index].id, sample, score)


def verdicts(model: Model, comparisons: Iterable[Comparison], context: Context) -> Iterator[Verdict]:
    """Compare two answers by the Bradley-Terry probability of their scores: the logistic function of the difference.

    A verdict is yielded as soon as both scores are computed.
    """
    for window in windows(comparisons, settings_of(context)):
        comparisons_of: dict[tuple[str, str], list[Comparison]] = {}
        for one in window:
            for answer in dict.fromkeys((one.first, one.second)):
                comparisons_of.setdefault((one.prompt, answer), []).append(one)
        sides = list(comparisons_of)
        conversations = [(Message("user", prompt), Message("assistant", answer)) for prompt, answer in sides]
        scores: dict[tuple[str, str], float | None] = {}
        for index, score in _scores(model, conversations, context):
            scores[sides[index]] = score
            for one in comparisons_of[sides[index]]:
                first, second = (one.prompt, one.first), (one.prompt, one.second)
                if first in scores and second in scores:
                    yield _verdict(one.id, scores[first], scores[second])


def _verdict(id: str, first: float | None, second: float | None) -> Verdict:
    if first is None or second is None:
        return Verdict(id, None, Outcome.FAILED, detail=TOO_LONG)
    return Verdict(id, 0.5 * (1 + math.tanh((first - second) / 2)))


def rubric_problem(rubric: Rubric) -> str:
    """Return the problem of a rubric whose scale has limits."""
    return (
        f"rubric {rubric.name!r} has the scale {rubric.lowest:g} to {rubric.highest:g}, and the scores of a reward "
        "model have no limits; set the rubric to reward"
    )


def _judgement(id: str, sample: int, score: float | None) -> Judgement:
    if score is None:
        return Judgement(id, sample, None, Outcome.FAILED, detail=TOO_LONG)
    return Judgement(id, sample, score)


def _scores(
    model: Model, conversations: Sequence[Sequence[Message]], context: Context
) -> Iterator[tuple[int, float | None]]:
    """Yield the index and the score of each conversation, batch by batch; the score is None if it is too long."""
    loaded, size = _load(model, context)
    texts = [_text(loaded, message_rows(one[:-1]), message_rows(one[-1:])) for one in conversations]
    rows = encode(loaded.tokenizer, texts)
    limit = context_length(loaded.model.config)
    fitting = [index for index, row in enumerate(rows) if len(row) <= limit]
    yield from ((index, None) for index, row in enumerate(rows) if len(row) > limit)
    fitting.sort(key=lambda index: (-len(rows[index]), index))
    for start in range(0, len(fitting), size):
        batch = fitting[start : start + size]
        for index, score in zip(batch, _logits(loaded, [rows[index] for index in batch]), strict=True):
            if not math.isfinite(score):
                raise StageError(
                    f"plugin transformers, model {model.name}: a reward is {score}, so there is no score. Check that "
                    "its weights are finite and whole; try settings.dtype float32"
                )
            yield index, score
        context.advance(len(batch))
        if context.cancelled():
            return


def _load(model: Model, context: Context) -> tuple[LoadedModel, int]:
    """Load the model on the first device of the settings."""
    settings = settings_of(context)
    one = parallel.settings_of_one_process(settings, parallel.device_names(settings)[0])
    dispatch.release_shared()
    return loading.load(model, one, is_reward=True), settings.batch_size or BATCH


def _text(loaded: LoadedModel, prompt: list[dict[str, str]], answer: list[dict[str, str]]) -> str:
    """The whole conversation by the chat template, as in training."""
    begin = prompt_text(loaded.tokenizer, prompt)
    return begin + answer_text(loaded.tokenizer, prompt, begin, answer)


def _logits(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> list[float]:
    import torch

    device, longest = loaded.model.device, max(map(len, rows))
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    with torch.inference_mode():
        logits = loaded.model(input_ids=ids, attention_mask=mask).logits
    return [float(value) for value in logits[:, 0].float().tolist()]
