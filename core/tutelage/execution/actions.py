"""The actions of the steps, one function per step type: it reads the inputs, calls a stage and makes the artifact.

Every function returns an ``Artifact``: the counts of the step's items, and a function that writes the artifact. The
runner records the counts before it writes the artifact, so that no artifact is without counts.
"""

from __future__ import annotations

import random
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from attrs import evolve

from tutelage.errors import StageError
from tutelage.execution.data_actions import from_sources, write_prompts
from tutelage.execution.judge_actions import combine_scores, make_win_rates, select_disputed
from tutelage.execution.label_actions import label_answers, unpair_answers
from tutelage.execution.measuring import take_measure
from tutelage.execution.step_context import Artifact, StepContext, rows_artifact
from tutelage.execution.transforming import transform
from tutelage.files.trl_format import preference_row, read_preferences, supervised_row
from tutelage.planning.artifacts import metrics_beside
from tutelage.planning.evaluation_plan import comparison_id
from tutelage.planning.judge_steps import CombineScores, CompareCandidates, MakeWinRates, SelectDisputed
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.planning.measure_steps import TakeMeasure
from tutelage.planning.steps import (
    BuildExamples,
    ChosenExamples,
    Compare,
    Demonstrate,
    JoinPairs,
    Judge,
    MakePairs,
    MixAnswers,
    Sample,
    SelectExamples,
    SelectPreferences,
    SelectPrompts,
    Step,
    Train,
    Transform,
    WritePrompts,
)
from tutelage.plugins import stages
from tutelage.plugins.pair_rules import guarded_rule
from tutelage.preferences.combining import comparisons_of
from tutelage.preferences.comparisons import split_equal
from tutelage.preferences.judging import average
from tutelage.preferences.pairing import PairOptions, pair
from tutelage.records import (
    Candidate,
    Comparison,
    Demonstration,
    JudgeItem,
    Judgement,
    Prompt,
    Verdict,
)
from tutelage.results.nothing_left import no_pair
from tutelage.runs.durable import Result, Stage, Unit, derive_seed
from tutelage.runs.failures import unless_all_failed

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT", bound=Result)


def train(step: Train, at: StepContext) -> Artifact:
    """Train a model. The metrics are written before the checkpoint, so that no checkpoint is without metrics."""
    metrics: list[Mapping[str, Any]] = []
    folder = at.store.fresh_folder(step.output)
    reference = at.model(step.reference) if step.reference else None
    examples = at.store.complete(step.examples)

    def log(row: Mapping[str, Any]) -> None:
        metrics.append(row)
        at.context.log(row)

    stages.train_step(
        at.registry,
        at.model(step.start),
        reference,
        step.objective,
        examples,
        folder,
        evolve(at.context, log=log),
    )

    def commit() -> None:
        at.store.write(metrics_beside(step.output), metrics)
        at.store.rename(folder, step.output)

    return Artifact({"steps": len(metrics)}, commit, folder=folder)


def sample(step: Sample, at: StepContext) -> Artifact:
    """Let a model answer prompts."""
    prompts = at.prompts(step.prompts, step.take)
    units = [Unit(prompt, tuple(f"{prompt.id}/{index}" for index in range(step.n))) for prompt in prompts]
    return _call_stage(step, at, Candidate, units, stages.generate_candidates, {"n": step.n})


def demonstrate(step: Demonstrate, at: StepContext) -> Artifact:
    """Let a teacher answer prompts."""
    units = [Unit(prompt, (prompt.id,)) for prompt in at.prompts(step.prompts)]
    return _call_stage(step, at, Demonstration, units, stages.demonstrate, {})


def judge(step: Judge, at: StepContext) -> Artifact:
    """Let a model score answers. Answers without text are not judged; equal answers to a prompt are judged once."""
    prompts = {prompt.id: prompt for prompt in at.prompts(step.prompts, step.take)}
    equal: dict[tuple[str, str], list[str]] = {}
    for answer in at.store.read(step.answers, Candidate):
        if answer.prompt_id in prompts and answer.outcome.has_text:
            equal.setdefault((answer.prompt_id, answer.text), []).append(answer.id)
    others = {ids[0]: ids[1:] for ids in equal.values()}
    units = [
        Unit(_item(ids[0], prompts[prompt_id], text), tuple(f"{ids[0]}#{number}" for number in range(step.samples)))
        for (prompt_id, text), ids in equal.items()
    ]

    def repeated(judgement: Judgement) -> list[Judgement]:
        return [evolve(judgement, item_id=id) for id in others[judgement.item_id]]

    arguments = {"rubric": at.registry.get("rubrics", step.rubric), "samples": step.samples, "score": step.score}
    return _call_stage(step, at, Judgement, units, stages.judge, arguments, repeated=repeated)


def _item(id: str, prompt: Prompt, answer: str) -> JudgeItem:
    return JudgeItem(id, prompt.text, answer, messages=prompt.messages, metadata=prompt.metadata)


def make_preferences(step: MakePairs, at: StepContext) -> Artifact:
    """Make pairs of scored candidates, or of demonstrations and candidates, with the step's rule.

    Raises StageError with the causes, counted in prompts, if there is no pair and the pairs are trained on alone.
    """
    scores = average(at.store.read(step.judgements, Judgement)) if step.judgements else {}
    demonstrations = at.store.read(step.demonstrations, Demonstration) if step.demonstrations else []
    only = {pair.prompt_id for pair in read_preferences(at.store.complete(step.like))} if step.like else None
    prompts = {prompt.id: prompt for prompt in at.prompts(step.prompts) if only is None or prompt.id in only}
    pairing = pair(
        guarded_rule(at.registry, step.rule),
        prompts,
        (c for c in at.store.read(step.candidates, Candidate) if only is None or c.prompt_id in only),
        scores={item: averaged.score for item, averaged in scores.items()},
        demonstrations={demonstration.prompt_id: demonstration for demonstration in demonstrations},
        options=PairOptions(step.seed, step.margin, step.near_best, step.length_ratio, step.keep_cut),
    )
    if not pairing.preferences and not at.may_be_empty(step):
        show = f"tutelage data show {shlex.quote(str(at.store.root))} {at.run.plan.model_of(step.output)}"
        raise StageError(no_pair(step, at.recipe, pairing.causes, len(prompts), show))
    counts = {"pairs": len(pairing.preferences), **pairing.dropped}
    rows = [preference_row(pair) for pair in pairing.preferences]
    return Artifact(counts, lambda: at.store.write(step.output, rows), rows=len(rows))


def join_pairs(step: JoinPairs, at: StepContext) -> Artifact:
    """Join the pairs of several files, in the order of the files. Raises StageError if all of them are empty."""
    pairs = [pair for part in step.parts for pair in read_preferences(at.store.complete(part))]
    if not pairs and not at.may_be_empty(step):
        raise StageError(f"{step.output}: no pair was left to train on: {' and '.join(step.parts)} have none")
    return rows_artifact(step, at, "pairs", [preference_row(pair) for pair in pairs])


def chosen_examples(step: ChosenExamples, at: StepContext) -> Artifact:
    """Make supervised examples from the chosen answers of preference pairs."""
    pairs = read_preferences(at.store.complete(step.preferences))
    return rows_artifact(step, at, "examples", [supervised_row(pair.turns, pair.chosen) for pair in pairs])


def mix_answers(step: MixAnswers, at: StepContext) -> Artifact:
    """Draw ``n`` sampled answers for each prompt, each from a model drawn at random."""
    by_model = {
        model: {candidate.id: candidate for candidate in at.store.read(path, Candidate)}
        for model, path in step.answers.items()
    }
    rows = [
        evolve(by_model[model][f"{prompt.id}/{index}"], model=model)
        for prompt in at.prompts(step.prompts, step.take)
        for index, model in enumerate(_draw(sorted(by_model), step, prompt))
    ]
    return rows_artifact(step, at, "answers", rows)


def compare(step: Compare, at: StepContext) -> Artifact:
    """Compare every two answers in both orders. Equal answers are a tie, for which the evaluator is not called."""
    different, ties = split_equal(_comparisons(step, at))
    units = [Unit(comparison, (comparison.id,)) for comparison in different]
    arguments = {"rubric": at.registry.get("rubrics", step.rubric)}
    return _call_stage(step, at, Verdict, units, stages.evaluate, arguments, known=ties)


def compare_candidates(step: CompareCandidates, at: StepContext) -> Artifact:
    """Compare every two different answers to a prompt in both orders."""
    prompts = {prompt.id: prompt for prompt in at.prompts(step.prompts)}
    answers = at.store.read(step.answers, Candidate)
    units = [Unit(comparison, (comparison.id,)) for comparison in comparisons_of(prompts, answers)]
    arguments = {"rubric": at.registry.get("rubrics", step.rubric)}
    return _call_stage(step, at, Verdict, units, stages.evaluate, arguments)


def _comparisons(step: Compare, at: StepContext) -> Iterator[Comparison]:
    """Yield both orders of every two answers that have text."""
    texts = {
        model: {answer.prompt_id: answer.text for answer in at.store.read(path, Candidate) if answer.outcome.has_text}
        for model, path in step.answers.items()
    }
    for left, right in step.pairs:
        for prompt in at.prompts(step.prompts):
            first, second = texts[left].get(prompt.id), texts[right].get(prompt.id)
            if first is not None and second is not None:
                about = prompt.metadata
                yield Comparison(comparison_id(left, right, prompt.id), prompt.text, first, second, metadata=about)
                yield Comparison(comparison_id(right, left, prompt.id), prompt.text, second, first, metadata=about)


def _draw(models: Sequence[str], step: MixAnswers, prompt: Prompt) -> list[str]:
    return random.Random(derive_seed(step.seed, step.output, prompt.id)).choices(models, k=step.n)


def _call_stage(
    step: Sample | Demonstrate | Judge | Compare | CompareCandidates,
    at: StepContext,
    cls: type[ResultT],
    units: Sequence[Unit[ItemT]],
    stage: Stage,
    arguments: Mapping[str, Any],
    known: Sequence[ResultT] = (),
    repeated: Callable[[ResultT], Sequence[ResultT]] = lambda _: (),
) -> Artifact:
    """Call a stage of the step's worker for every unit, durably. The rows of the artifact are sorted by id.

    ``known`` are results that need no call. ``repeated`` returns further results that follow from a result.
    """
    at.context.expect(sum(len(unit.results) for unit in units))
    journal, seed = at.store.journal(step.output, cls), (step.seed, step.output)
    worker = at.durable_stage(step.worker)
    asked = worker.results(journal, units, stage, step.sampling, seed, **arguments)
    results = unless_all_failed(asked, worker.registry, worker.model, others=bool(known))
    with_repeated = (one for result in results for one in (result, *repeated(result)))
    finished = sorted([*known, *with_repeated], key=lambda result: result.id)

    def commit() -> None:
        at.store.write(step.output, finished)
        journal.discard()

    return Artifact(Counter(str(result.outcome) for result in finished), commit, rows=len(finished))


ACTIONS: Mapping[type[Step], Callable[[Any, StepContext], Artifact]] = {
    SelectPrompts: from_sources,
    WritePrompts: write_prompts,
    BuildExamples: from_sources,
    SelectExamples: from_sources,
    SelectPreferences: from_sources,
    Transform: transform,
    Train: train,
    Sample: sample,
    Demonstrate: demonstrate,
    Judge: judge,
    MakePairs: make_preferences,
    JoinPairs: join_pairs,
    ChosenExamples: chosen_examples,
    LabelAnswers: label_answers,
    UnpairAnswers: unpair_answers,
    MixAnswers: mix_answers,
    Compare: compare,
    CompareCandidates: compare_candidates,
    CombineScores: combine_scores,
    SelectDisputed: select_disputed,
    MakeWinRates: make_win_rates,
    TakeMeasure: take_measure,
}
