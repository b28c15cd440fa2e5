"""The action of a measure: a plugin's function gives the prompts of one model their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import Interrupted
from tutelage.examples import Example, LabelledAnswer, Preference
from tutelage.execution.step_context import Artifact, StepContext
from tutelage.files.trl_format import read_examples, read_labelled, read_preferences
from tutelage.measure import MeasuredPrompt
from tutelage.planning.measure_steps import TakeMeasure
from tutelage.plugins.measures import bound_measure
from tutelage.records import Candidate, Judgement, Prompt
from tutelage.runs.durable import STOPPED

T = TypeVar("T")


def take_measure(step: TakeMeasure, at: StepContext) -> Artifact:
    """Compute a measure of a model. The rows are the values in the order of the prompts.

    Raises StageError if the function raises an exception, and PluginError if it gives a value that is not valid.
    """
    bound = bound_measure(at.registry, step.measure, step.settings, f"evaluation.measures.{step.name}.settings")
    if step.worker is not None:
        rows = bound.of_checkpoint(at.model(step.worker), evolve(at.context, settings=bound.settings))
    else:
        prompts = list(_of_training(step, at) if step.over == "training" else _of_answers(step, at))
        at.context.expect(len(prompts))
        rows = bound.of_prompts(step.model, prompts, partial(_advance, at.context))
    measured = sum(row.value is not None for row in rows)
    counts = {"measured": measured, "not measured": len(rows) - measured}
    return Artifact(counts, lambda: at.store.write(step.output, rows), rows=len(rows))


def _advance(context: Context, count: int) -> None:
    """Report progress, and stop if the user has asked for it: a function may be slow."""
    context.advance(count)
    if context.cancelled():
        raise Interrupted(STOPPED)


def _of_answers(step: TakeMeasure, at: StepContext) -> Iterator[MeasuredPrompt]:
    """The held-out prompts with the model's answers. Only prompts that the model judged, for its own judgements."""
    answers = _grouped((one.prompt_id, one) for one in at.store.read(step.reads["answers"], Candidate))
    gold, own = (_judgements(step, at, kind) for kind in ("gold", "judgements"))
    take = None
    if step.over == "judgements" and at.recipe.evaluation is not None:
        take = at.recipe.evaluation.agreement_prompts
    for prompt in at.prompts(step.reads["prompts"], take):
        of_prompt = answers.get(prompt.id, [])
        with_text = tuple(one for one in of_prompt if one.outcome.has_text)
        yield MeasuredPrompt(
            prompt=prompt,
            answers=with_text,
            without_text=len(of_prompt) - len(with_text),
            gold=tuple(judgement for one in with_text for judgement in gold.get(one.id, ())),
            judgements=tuple(judgement for one in with_text for judgement in own.get(one.id, ())),
        )


def _judgements(step: TakeMeasure, at: StepContext, kind: str) -> Mapping[str, list[Judgement]]:
    if kind not in step.reads:
        return {}
    return _grouped((one.item_id, one) for one in at.store.read(step.reads[kind], Judgement))


def _of_training(step: TakeMeasure, at: StepContext) -> Iterator[MeasuredPrompt]:
    """The prompts that the model was trained on, with their pairs, labelled answers or examples."""
    [(kind, artifact)] = step.reads.items()
    trained_on = _READERS[kind](at.store.complete(artifact))
    for group in _grouped((_prompt(one).id, one) for one in trained_on).values():
        fields: Mapping[str, Any] = {kind: tuple(group)}
        yield MeasuredPrompt(prompt=_prompt(group[0]), **fields)


_READERS: Mapping[str, Callable[[Path], Sequence[Preference | LabelledAnswer | Example]]] = {
    "pairs": read_preferences,
    "labelled": read_labelled,
    "examples": read_examples,
}
"""Readers of training data, by the fields of ``MeasuredPrompt``."""


def _prompt(trained_on: Preference | LabelledAnswer | Example) -> Prompt:
    prompt = Prompt(trained_on.prompt, messages=trained_on.messages)
    return prompt if isinstance(trained_on, Example) else evolve(prompt, id=trained_on.prompt_id)


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return dict(groups)
