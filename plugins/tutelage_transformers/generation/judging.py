"""The student as a judge: completes the prompt of a rubric through its chat template; core reads the completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage.context import Context
from tutelage.errors import InputError
from tutelage.preferences.expected_scores import expected_judgement, score_replies
from tutelage.preferences.judging import question_messages, render, render_comparison
from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
from tutelage.records import Comparison, JudgeItem, Judgement, Model, Outcome, Rubric, Sampling, Verdict
from tutelage.services.requests import Reply
from tutelage_transformers.generation.answering import NO_ROOM, completions, outcome_of, reply_probabilities
from tutelage_transformers.generation.engine import Completion


def judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score each item ``samples`` times; its prompt is computed once for all of them.

    Raises ``InputError`` if the rubric has no template.
    """
    if not rubric.template:
        raise InputError(
            f"rubric {rubric.name!r} has no template, and model {model.name} needs one; use another rubric"
        )
    prompts = ((item.id, question_messages(rubric, render(rubric, item))) for item in items)
    for item_id, completion in completions(model, prompts, samples, sampling, context):
        yield judgement_from_reply(item_id, completion.sample, _reply(completion), rubric)


def expected_judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, context: Context
) -> Iterator[Judgement]:
    """Score each item once, by the probabilities of the scores as the next token after ``rubric.score_prefix``."""
    prompts = ((item.id, question_messages(rubric, render(rubric, item))) for item in items)
    for item_id, found in reply_probabilities(model, prompts, score_replies(rubric), context):
        if found.fits:
            yield expected_judgement(item_id, found.probabilities, rubric)
        else:
            yield Judgement(item_id, 0, None, Outcome.FAILED, detail=NO_ROOM)


def verdicts(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare the two answers of each comparison in the order that it has."""
    prompts = (
        (comparison.id, question_messages(rubric, render_comparison(rubric, comparison))) for comparison in comparisons
    )
    for comparison_id, completion in completions(model, prompts, 1, sampling, context):
        yield verdict_from_reply(comparison_id, _reply(completion), rubric)


def _reply(completion: Completion) -> Reply:
    return Reply(completion.text, *outcome_of(completion))
