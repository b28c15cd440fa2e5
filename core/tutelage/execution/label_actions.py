"""The actions of the steps that make labelled answers: no model is called."""

from __future__ import annotations

import shlex

from tutelage.errors import InputError, StageError
from tutelage.execution.step_context import Artifact, StepContext
from tutelage.files.trl_format import labelled_row, read_preferences
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.preferences.judging import average
from tutelage.preferences.labelling import Labelling, label, unpaired
from tutelage.records import Candidate, Judgement


def label_answers(step: LabelAnswers, at: StepContext) -> Artifact:
    """Label the scored candidates of every prompt. Raises StageError with the reasons if none is left."""
    scores = average(at.store.read(step.judgements, Judgement))
    found = label(
        {prompt.id: prompt for prompt in at.prompts(step.prompts)},
        at.store.read(step.candidates, Candidate),
        {item: averaged.score for item, averaged in scores.items()},
        step.threshold,
        step.keep_cut,
    )
    if not found.answers:
        reasons = "; ".join(f"{count:,} were dropped: {reason}" for reason, count in found.dropped.items())
        show = f"tutelage data show {shlex.quote(str(at.store.root))} {at.run.plan.model_of(step.output)}"
        raise StageError(f"{step.output}: no answer was left to train on: {reasons}. `{show}` shows the answers")
    return _artifact(step, at, found)


def unpair_answers(step: UnpairAnswers, at: StepContext) -> Artifact:
    """Label both answers of each pair. Raises StageError if the pairs have weights or soft labels."""
    try:
        found = unpaired(read_preferences(at.store.complete(step.preferences)))
    except InputError as error:
        raise StageError(f"{step.preferences}: {error}") from error
    return _artifact(step, at, Labelling(tuple(found)))


def _artifact(step: LabelAnswers | UnpairAnswers, at: StepContext, found: Labelling) -> Artifact:
    rows = [labelled_row(answer) for answer in found.answers]
    return Artifact(found.counts, lambda: at.store.write(step.output, rows), rows=len(rows))
