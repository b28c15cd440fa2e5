"""The contents of the page about a run, as records: read from the run's artifacts, without any markup."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.calibration import Calibration, calibrate
from tutelage.files.jsonl import read_json, read_rows
from tutelage.planning.artifacts import DESCRIPTION, RECIPE, metrics_beside
from tutelage.planning.label_steps import LabelAnswers, UnpairAnswers
from tutelage.planning.roles import binding
from tutelage.planning.steps import (
    BuildExamples,
    ChosenExamples,
    JoinPairs,
    MakePairs,
    SelectExamples,
    SelectPreferences,
    Step,
    Train,
    Transform,
)
from tutelage.recipe.schema import Recipe
from tutelage.report.answers import ShownAnswers, read_answers
from tutelage.report.gains import Gains, first_sentences, read_gains
from tutelage.results.run_results import RunResults
from tutelage.results.run_warnings import warnings_of_step
from tutelage.results.summary import Summary, read_summary
from tutelage.results.wording import counts_words
from tutelage.runs.run import Run

CURVES = {
    "rewards/margins": "margin",
    "rewards/chosen": "chosen",
    "rewards/rejected": "rejected",
}
"""Quantities of a training with a reference by their keys in its metrics: beta times a change of log-probability."""


@frozen
class Curve:
    """One quantity during one training."""

    model: str
    seed: int
    quantity: str
    """The loss of an objective (``SFT loss``, ``DPO loss``), ``margin``, ``chosen`` or ``rejected``; these in nats."""
    points: tuple[tuple[int, float], ...]
    """Optimizer step and value. Values that are not finite are left out."""


@frozen
class DataRow:
    """The data that one model was trained on, from the prompts to the pairs or examples."""

    model: str
    seed: int
    prompts: str = ""
    """Counts as text; empty if the step does not exist."""
    answers: str = ""
    scores: str = ""
    """Judgements, or demonstrations of the teacher."""
    result: str = ""
    """Pairs or examples, and what was dropped, by reason."""


@frozen
class StageCost:
    """Time and money of the steps of one stage with one kind of model."""

    stage: str
    role: str
    """Role of the model; empty if the stage needs none."""
    steps: int
    seconds: float
    cost: float
    """US dollars."""


@frozen
class Contents:
    """Everything that the page shows."""

    name: str
    """Name of the run's folder."""
    recipe_name: str
    seeds: tuple[int, ...]
    recipe: str
    """The resolved recipe as YAML."""
    versions: dict[str, Any]
    """The contents of ``run.json``."""
    sentences: tuple[str, ...]
    """The sentences at the top of the page."""
    warnings: tuple[str, ...]
    curves: tuple[Curve, ...]
    data: tuple[DataRow, ...]
    costs: tuple[StageCost, ...]
    summary: Summary | None = None
    """None if the recipe has no evaluation. The fields below are then empty."""
    gains: tuple[Gains, ...] = ()
    calibration: dict[str, Calibration] = field(factory=dict)
    """Properties of each model's judging of its own sampled answers."""
    answers: ShownAnswers | None = None


def read_contents(root: Path) -> Contents:
    """Read the contents of the page about the run in a folder.

    Raises InputError if the folder contains no run, the run is not finished, or an artifact is damaged.
    """
    run = Run.open(root)
    missing = [step.output for step in run.plan.steps if not run.store.has(step.output)]
    if missing:
        raise InputError(
            f"{root}: the run is not finished ({missing[0]} does not exist); `tutelage run --run {root}` continues it"
        )
    evaluated = _evaluated(run) if run.recipe.evaluation else _not_evaluated(run)
    description = run.store.path(DESCRIPTION)
    return Contents(
        name=root.resolve().name,
        recipe_name=run.recipe.name,
        seeds=run.recipe.seeds,
        recipe=run.store.path(RECIPE).read_text(encoding="utf-8"),
        versions=read_json(description) if description.is_file() else {},
        curves=tuple(_curves(run)),
        data=tuple(_data(run)),
        costs=tuple(_costs(run)),
        **evaluated,
    )


def _evaluated(run: Run) -> dict[str, Any]:
    results = RunResults.open(run.root)
    summary = read_summary(run.summary)
    gains = read_gains(results.reader, summary)
    judged = ((model, results.judged(model)) for model in results.models())
    return {
        "sentences": tuple(first_sentences(summary.overall(), gains, run.recipe, evaluator_of(run.recipe))),
        "warnings": summary.warnings,
        "summary": summary,
        "gains": gains,
        "calibration": {model: calibrate(items) for model, items in judged if items},
        "answers": read_answers(run),
    }


def _not_evaluated(run: Run) -> dict[str, Any]:
    finished = run.store.finished_steps()
    found = (
        warning
        for step in run.plan.steps
        if step.output in finished
        for warning in warnings_of_step(run, step, finished[step.output].counts)
    )
    return {
        "sentences": ("The models were not evaluated: the recipe has no evaluation.",),
        "warnings": tuple(found),
    }


def evaluator_of(recipe: Recipe) -> str:
    """Return the plugin and the model of the evaluator as text."""
    bound = binding(recipe, "evaluator")
    return ":".join(part for part in (bound.plugin, bound.model) if part) if bound else ""


def _curves(run: Run) -> Iterator[Curve]:
    for step in run.plan.steps:
        if not isinstance(step, Train):
            continue
        path = run.store.path(metrics_beside(step.output))
        rows = [row for _, row in read_rows(path)] if path.is_file() else []
        factor = step.objective.reward_factor
        quantities = {"loss": (f"{step.objective.label} loss", 1.0)}
        if factor:
            quantities |= {key: (name, 1 / factor) for key, name in CURVES.items()}
        for key, (quantity, scale) in quantities.items():
            numbered = ((row.get("step", number), _number(row.get(key))) for number, row in enumerate(rows, 1))
            points = tuple((int(at), value * scale) for at, value in numbered if value is not None)
            if points:
                yield Curve(step.model, step.seed, quantity, points)


def _number(value: object) -> float | None:
    """Return a finite number; None for another value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


_ROWS = (BuildExamples, ChosenExamples, JoinPairs, SelectExamples, SelectPreferences, Transform, UnpairAnswers)


def _data(run: Run) -> Iterator[DataRow]:
    steps = {step.output: step for step in run.plan.steps}
    finished = run.store.finished_steps()

    def counts(path: str) -> str:
        if path not in finished or path not in steps:
            return ""
        found = finished[path].counts
        if isinstance(steps[path], BuildExamples):  # two kinds of examples; the second was not dropped
            return ", ".join(f"{count:,} {name}" for name, count in found.items())
        return counts_words(steps[path], found)

    for step in run.plan.steps:
        model = run.plan.model_of(step.output)
        if isinstance(step, MakePairs | LabelAnswers):
            demonstrations = counts(step.demonstrations) if isinstance(step, MakePairs) else ""
            scores = ", ".join(filter(None, (counts(step.judgements), demonstrations)))
            prompts, answers = counts(step.prompts), counts(step.candidates)
            yield DataRow(model, step.seed, prompts, answers, scores, counts(step.output))
        elif isinstance(step, _ROWS):
            yield DataRow(model, step.seed, result=counts(step.output))


def _costs(run: Run) -> Iterator[StageCost]:
    finished = run.store.finished_steps()
    groups: dict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in run.plan.steps:
        if step.output in finished:
            groups[step.stage, _role(step)].append(step)
    for (stage, role), steps in groups.items():
        notes = [finished[step.output] for step in steps]
        seconds, cost = (math.fsum(values) for values in zip(*((one.seconds, one.cost) for one in notes), strict=True))
        yield StageCost(stage, role, len(steps), seconds, cost)


def _role(step: Step) -> str:
    worker = step.start if isinstance(step, Train) else getattr(step, "worker", None)
    return worker.role if worker is not None else ""
