"""The steps in which measures of plugins are taken of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from attrs import field, frozen

from tutelage.measure import MeasureInfo, Over
from tutelage.objectives import ExampleKind
from tutelage.planning.declared import Declared
from tutelage.planning.evaluation_plan import EvaluationPlan
from tutelage.planning.steps import PlannedModel, Step, Train, Worker
from tutelage.recipe.schema import Evaluation


@frozen(kw_only=True)
class TakeMeasure(Step):
    """Compute a measure of one model with a function of a plugin."""

    stage: ClassVar[str] = "measure"
    name: str
    """Name of the measure in the recipe."""
    measure: str
    """``PLUGIN/NAME``."""
    settings: Mapping[str, Any] = field(factory=dict)
    over: Over
    reads: Mapping[str, str] = field(factory=dict)
    """The artifacts that the measure is computed from, by the kind of their records."""
    model: str
    """Id of the model that is measured."""
    worker: Worker | None = None
    """The model, if the measure is one of checkpoints."""
    unit: str = "values"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The artifacts that are read, or the checkpoint that is measured."""
        checkpoint = self.worker.checkpoint if self.worker is not None else ""
        return (*self.reads.values(), *((checkpoint,) if checkpoint else ()))


def measure_steps(plan: EvaluationPlan, known: Declared, made: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps that take the measures of the models of one seed, measure by measure.

    ``made`` are the other steps of the seed. A measure over trainings is taken of the models that are trained, and one
    over judgements only if the models' own judging is measured.
    """
    if (evaluation := plan.recipe.evaluation) is None:
        return
    trainings = {step.model: step for step in made if isinstance(step, Train)}
    counts = {step.output: step.count for step in made}
    for name, use in evaluation.measures.items():
        if (info := known.measures.get(use.measure)) is None:
            continue  # check_measures names it
        for model in plan.models:
            reads = _reads(plan, info, model, trainings.get(model.id))
            if reads is None:
                continue
            yield TakeMeasure(
                output=model.files.measured(name),
                count=_count(plan, evaluation, info, reads, counts),
                seed=plan.seed,
                name=name,
                measure=use.measure,
                settings=use.settings,
                over=info.over,
                reads=reads,
                model=model.id,
                worker=model.worker if info.over == "checkpoint" else None,
                unit="checkpoints" if info.over == "checkpoint" else "values",
            )


def _reads(
    plan: EvaluationPlan, info: MeasureInfo, model: PlannedModel, training: Train | None
) -> Mapping[str, str] | None:
    """The artifacts that a measure of a model reads; None if the model has none of them."""
    files = model.files
    decoding = "greedy" if info.over == "answers" else "sampled"
    of_answers = {"prompts": plan.files.prompts, "answers": files.held_out(decoding), "gold": files.gold(decoding)}
    match info.over:
        case "answers" | "sampled":
            return of_answers
        case "judgements":
            return {**of_answers, "judgements": files.own_judgements("own")} if plan.judges_measured else None
        case "training":
            return {_TRAINED_ON[training.objective.examples]: training.examples} if training is not None else None
        case "checkpoint":
            return {}


_TRAINED_ON: Mapping[ExampleKind, str] = {"examples": "examples", "preferences": "pairs", "labelled": "labelled"}
"""The fields of ``MeasuredPrompt`` that have the data of an objective, by what the objective trains on."""


def _count(
    plan: EvaluationPlan, evaluation: Evaluation, info: MeasureInfo, reads: Mapping[str, str], counts: Mapping[str, int]
) -> int:
    match info.over:
        case "answers" | "sampled":
            return plan.prompt_count(evaluation)
        case "judgements":
            return plan.judged_prompts(evaluation)
        case "training":
            return counts.get(next(iter(reads.values())), 0)
        case "checkpoint":
            return 1
