"""Warnings of a run: what looks wrong in a step or in the results, and what to change.

Each warning begins with its model and its seed. ``warnings_of_step`` needs the artifacts of the step alone, so that the
warning appears as soon as the step is finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tutelage.evaluation.health import TrainingHealth, training_health
from tutelage.evaluation.warning_signs import drift, few_steps, frequent_outcomes, is_below, only_score
from tutelage.files.jsonl import read_rows
from tutelage.objectives import Dpo
from tutelage.planning.artifacts import metrics_beside
from tutelage.planning.judge_steps import CompareCandidates
from tutelage.planning.label_steps import LabelAnswers
from tutelage.planning.steps import (
    Compare,
    Demonstrate,
    JoinPairs,
    Judge,
    MakePairs,
    Sample,
    SelectPreferences,
    Step,
    Train,
    Transform,
)
from tutelage.preferences.judging import average
from tutelage.records import Judgement, Outcome
from tutelage.results.nothing_left import cause_of
from tutelage.results.summary import Difference, TrainingResult
from tutelage.runs.run import Run


def health_of(run: Run, step: Train, before: float | None = None, after: float | None = None) -> TrainingHealth:
    """Return the health of a finished training; ``before`` and ``after`` are mean lengths of answers in words."""
    run.store.complete(step.output)  # its metrics too
    rows = [row for _, row in read_rows(run.store.path(metrics_beside(step.output)))]
    objective = step.objective
    loss_type = objective.loss_type if isinstance(objective, Dpo) else None
    return training_health(rows, objective.reward_factor, before, after, loss_type=loss_type)


def warnings_of_step(run: Run, step: Step, counts: Mapping[str, int]) -> list[str]:
    """Return the warnings of a finished step with these counts."""
    found: Iterable[str]
    if isinstance(step, Train):
        found = health_of(run, step).warnings
    elif isinstance(step, LabelAnswers) or (isinstance(step, Transform) and step.makes == "labelled"):
        found = _one_label(step, counts)
    elif isinstance(step, MakePairs | JoinPairs | SelectPreferences | Transform):
        found = (*_nothing_made(run, step, counts), *_few_pairs(run, step, counts))
    elif isinstance(step, Sample | Demonstrate | Judge | Compare | CompareCandidates) and not _is_measured_only(
        run, step
    ):
        found = (*_outcomes(run, step, counts), *_one_score(run, step))
    else:
        found = ()
    return [f"{run.plan.model_of(step.output) or 'evaluation'}, seed {step.seed}: {text}" for text in found]


def warnings_of_results(
    run: Run, training: Iterable[TrainingResult], differences: Iterable[Difference], gold: Mapping[int, Iterable[float]]
) -> Iterator[str]:
    """Yield the warnings that need the measured results.

    ``gold`` has all scores of the evaluator by seed.
    """
    for difference in differences:
        metric = difference.metrics.get("gold_score")
        if (difference.left, difference.right) == ("M1", "M0") and metric is not None and is_below(metric):
            scope = "all seeds" if difference.seed is None else f"seed {difference.seed}"
            yield (
                f"M1, {scope}: its answers score {-(metric.value or 0.0):.2f} below those of M0, the model before "
                "training: lower sft.learning_rate or sft.epochs, and look at data.ift: its answers may be worse than "
                "the model's own"
            )
    results = list(training)
    start = {result.seed: result.health.words_after for result in results if result.model == "M1"}
    for result in results:
        parent, last = result.health.words_before, result.health.words_after
        factor = drift(start.get(result.seed), last)
        is_late = run.plan.model(result.seed, result.model).iteration > 2  # M2 is compared with M1 by its health
        if is_late and factor is not None and drift(parent, last) is None:
            yield (
                f"{result.model}, seed {result.seed}: answers have {last:.1f} words on average, {factor:.1f} times as "
                "many as those of M1: the series drifts in length; set pairs.rule to length-controlled or "
                "similar-length, or use a judging.rubric that does not reward length"
            )
    for seed, scores in gold.items():
        if one := only_score(scores):
            yield (
                f"evaluation, seed {seed}: the evaluator gave the score {one[0]:g} to all {one[1]:,} answers, so the "
                "models cannot be compared; set another evaluation.rubric or bind another evaluator (models)"
            )


def _is_measured_only(run: Run, step: Step) -> bool:
    """Whether a step measures a model as a judge: its share of scores that could not be read is a result, ``parsed``.

    The measured answers of M0 count as well: a base model was not trained to end an answer.
    """
    for model in run.plan.models:
        files = model.files
        own = ("own", "mixed")
        if step.output in (*map(files.own_judgements, own), *(files.own_judgements(one, "expected") for one in own)):
            return True
        if model.iteration == 0 and step.output in (files.held_out("greedy"), files.held_out("sampled")):
            return True
    return False


def _outcomes(
    run: Run, step: Sample | Demonstrate | Judge | Compare | CompareCandidates, counts: Mapping[str, int]
) -> Iterator[str]:
    for outcome, share in frequent_outcomes(counts).items():
        yield (
            f"{share:.0%} of the {sum(counts.values()):,} {step.unit} of {step.output} are {outcome}: "
            f"{_change(run, step, outcome)}"
        )


def _change(run: Run, step: Sample | Demonstrate | Judge | Compare | CompareCandidates, outcome: str) -> str:
    """Return what to change if many results of a step have this outcome."""
    is_evaluation = step.output.startswith("evaluation/") or "/held-out-" in step.output
    if isinstance(step, Judge | Compare | CompareCandidates):
        section = "evaluation.judgement_tokens" if is_evaluation else "judging.max_new_tokens"
        rubric = "evaluation.rubric" if is_evaluation else "judging.rubric"
        rubric = "judging.pairwise_rubric" if isinstance(step, CompareCandidates) else rubric
    else:
        section = "evaluation.max_new_tokens" if is_evaluation else "generation.max_new_tokens"
        rubric = ""
    longer = f"raise {section} (now {step.sampling.max_new_tokens})"
    if isinstance(step, Judge) and step.score == "expected":
        longer = "train M1 on more judging examples (data.eft), set judging.score to parsed"
    changes: Mapping[str, str] = {
        Outcome.CUT: longer,
        Outcome.UNPARSED: f"set another {rubric or 'model'}, {longer}, or bind another {step.worker.role} (models)",
        Outcome.REFUSED: f"change the prompts (data.prompts) or bind another {step.worker.role} (models)",
        Outcome.FAILED: f"check the {step.worker.role} with `tutelage doctor`",
    }
    return changes[outcome]


def _one_score(run: Run, step: Step) -> Iterator[str]:
    """Warn if the judge of training pairs gave one score. The evaluator's scores are compared over all models."""
    if not isinstance(step, Judge) or step.worker.role == "evaluator":
        return
    judgements = average(run.store.read(step.output, Judgement))
    if one := only_score(judgement.score for judgement in judgements.values()):
        yield (
            f"the judge gave the score {one[0]:g} to all {one[1]:,} answers, so no pair can be made of them: set "
            f"another judging.rubric (now {step.rubric}), judging.samples above 1 with judging.temperature above 0, or "
            "bind another judge (models)"
        )


def _one_label(step: LabelAnswers | Transform, counts: Mapping[str, int]) -> Iterator[str]:
    """Warn if all labelled answers have the same label, which leaves nothing to compare them with."""
    labels = {name for name in ("desirable", "undesirable") if counts.get(name)}
    if len(labels) == 1:
        if isinstance(step, LabelAnswers):
            change = f"set another pairs.threshold (now {step.threshold:g})"
        else:
            change = f"look at the function {step.function}, which labels them"
        yield f"all {counts['labelled answers']:,} answers that it is trained on are {labels.pop()}: {change}"


def _nothing_made(
    run: Run, step: MakePairs | JoinPairs | SelectPreferences | Transform, counts: Mapping[str, int]
) -> Iterator[str]:
    """Warn if a step made nothing. The run continues, because the steps that read it also have other records."""
    unit = step.makes if isinstance(step, Transform) and step.makes != "preferences" else "pairs"
    if counts.get(unit, 0) == 0:
        readers = " and ".join(one.output for one in run.plan.steps if step.output in one.inputs)
        dropped = {reason: count for reason, count in counts.items() if reason != unit and count}
        text = f"{step.output} has no {unit}, so {readers} is made without them"
        if dropped and isinstance(step, MakePairs):
            reason = max(sorted(dropped), key=dropped.__getitem__)
            text += f"; most were dropped as {reason!r}: {cause_of(reason, step, run.recipe).change}"
        yield text


def _few_pairs(
    run: Run, step: MakePairs | JoinPairs | SelectPreferences | Transform, counts: Mapping[str, int]
) -> Iterator[str]:
    """Warn if the training on these pairs has few optimizer steps, with the most frequent reason of dropped pairs."""
    pairs = counts.get("pairs", 0)
    for training in run.plan.steps:
        if (
            not isinstance(training, Train)
            or training.examples != step.output
            or not isinstance(training.objective, Dpo)
        ):
            continue
        objective = training.objective
        steps = few_steps(pairs, objective.batch_size, objective.epochs)
        if steps is not None:
            dropped = {reason: count for reason, count in counts.items() if reason != "pairs"}
            change = "raise data.prompts.count or dpo.epochs, or lower dpo.batch_size"
            if dropped and isinstance(step, MakePairs):
                reason = max(sorted(dropped), key=dropped.__getitem__)
                change += f"; most were dropped as {reason!r}: {cause_of(reason, step, run.recipe).change}"
            pairs_text, steps_text = (_plural(pairs, "pair"), _plural(steps, "optimizer step"))
            yield f"it is trained on {pairs_text} only, in {steps_text}: {change}"


def _plural(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
