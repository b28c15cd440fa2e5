"""The student as a judge: completes the prompt of a rubric through its chat template; core parses the completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tutelage import judging
from tutelage.context import Context
from tutelage.records import Comparison, JudgeItem, Judgement, Model, Outcome, Rubric, Sampling, Verdict
from tutelage_transformers.generation.answering import completions, outcome_of
from tutelage_transformers.generation.engine import Completion


def judgements(
    model: Model, items: Iterable[JudgeItem], rubric: Rubric, samples: int, sampling: Sampling, context: Context
) -> Iterator[Judgement]:
    """Score each item ``samples`` times; its prompt is computed once for all of them."""
    prompts = ((item.id, judging.render(rubric, item)) for item in items)
    for item_id, completion in completions(model, prompts, samples, sampling, context):
        parsed = judging.parse_score(completion.text, rubric)
        outcome, detail = _outcome(completion, parsed.score is not None, parsed.detail)
        yield Judgement(item_id, completion.sample, parsed.score, outcome, parsed.reason, completion.text, detail)


def verdicts(
    model: Model, comparisons: Iterable[Comparison], rubric: Rubric, sampling: Sampling, context: Context
) -> Iterator[Verdict]:
    """Compare the two answers of each comparison in the order that it has."""
    prompts = ((comparison.id, judging.render_comparison(rubric, comparison)) for comparison in comparisons)
    for comparison_id, completion in completions(model, prompts, 1, sampling, context):
        parsed = judging.parse_preference(completion.text, rubric)
        outcome, detail = _outcome(completion, parsed.preference is not None, parsed.detail)
        yield Verdict(comparison_id, parsed.preference, outcome, completion.text, detail)


def _outcome(completion: Completion, is_parsed: bool, problem: str) -> tuple[Outcome, str]:
    """Return the outcome and its reason. A completion whose score precedes the cut counts as a complete one."""
    if is_parsed:
        return Outcome.ANSWERED, ""
    outcome, detail = outcome_of(completion)
    if outcome is Outcome.FAILED:
        return outcome, detail
    return Outcome.UNPARSED, "; ".join(filter(None, (problem, detail)))
