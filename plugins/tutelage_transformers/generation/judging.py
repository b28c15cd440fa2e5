"""The student as a judge: completes the prompt of a rubric through its chat template; core reads the completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage.context import Context
from tutelage.preferences.judging import question_messages, render, render_comparison
from tutelage.preferences.replies import judgement_from_reply, verdict_from_reply
from tutelage.records import Comparison, JudgeItem, Judgement, Model, Rubric, Sampling, Verdict
from tutelage.services.requests import Reply
from tutelage_transformers.generation.answering import completions, outcome_of
from tutelage_transformers.generation.engine import Completion


def judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score each item ``samples`` times; its prompt is computed once for all of them."""
    prompts = ((item.id, question_messages(rubric, render(rubric, item))) for item in items)
    for item_id, completion in completions(model, prompts, samples, sampling, context):
        yield judgement_from_reply(item_id, completion.sample, _reply(completion), rubric)


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
