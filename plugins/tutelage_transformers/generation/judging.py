"""The model as a judge: a rubric's prompt asked through the chat template, and the reply parsed by core."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage.context import Context
from tutelage.preferences import judging
from tutelage.records import Comparison, JudgeItem, Judgement, Model, Outcome, Rubric, Sampling, Verdict
from tutelage_transformers.generation.answering import outcome_of, replies
from tutelage_transformers.generation.engine import Reply


def judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score each item ``samples`` times; its prompt is read once for all of them."""
    questions = ((item.id, judging.render(rubric, item)) for item in items)
    for item_id, reply in replies(model, questions, samples, sampling, context):
        parsed = judging.parse_score(reply.text, rubric)
        outcome, detail = _outcome(reply, parsed.score is not None, parsed.detail)
        yield Judgement(item_id, reply.sample, parsed.score, outcome, parsed.reason, reply.text, detail)


def verdicts(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare the two answers of each comparison in its own order."""
    questions = ((comparison.id, judging.render_comparison(rubric, comparison)) for comparison in comparisons)
    for comparison_id, reply in replies(model, questions, 1, sampling, context):
        parsed = judging.parse_preference(reply.text, rubric)
        outcome, detail = _outcome(reply, parsed.preference is not None, parsed.detail)
        yield Verdict(comparison_id, parsed.preference, outcome, reply.text, detail)


def _outcome(reply: Reply, is_read: bool, why_not: str) -> tuple[Outcome, str]:
    """A reply whose score stands before the cut is as good as a whole one."""
    if is_read:
        return Outcome.ANSWERED, ""
    outcome, detail = outcome_of(reply)
    if outcome is Outcome.FAILED:
        return outcome, detail
    return Outcome.UNPARSED, "; ".join(filter(None, (why_not, detail)))
