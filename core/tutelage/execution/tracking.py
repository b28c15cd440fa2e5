"""Reports the metrics of finished steps to experiment trackers, by the plugin of the student, which trains.

Each model of a run is one run in the trackers: the losses of its training, and beside them the metrics of its steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from statistics import fmean

from tutelage.context import Tracking
from tutelage.errors import InputError
from tutelage.planning.artifacts import TRACKING
from tutelage.planning.made_from import MadeFrom
from tutelage.planning.roles import bound_model
from tutelage.planning.steps import Judge, MakePairs, PlannedModel, Step, Summarise
from tutelage.plugins import helpers
from tutelage.plugins.registry import Registry
from tutelage.records import Judgement
from tutelage.results.summary import read_summary
from tutelage.runs.run import Run

Metrics = dict[str, float]


def tracking_of(run: Run, output: str, made_from: Mapping[str, MadeFrom]) -> Tracking | None:
    """Return the tracked run of the model that an artifact is a part of; None if the recipe names no tracker."""
    model = next((model for model in run.plan.models if model.files.has(output)), None)
    return None if model is None else _tracked(run, model, made_from)


def _tracked(run: Run, model: PlannedModel, made_from: Mapping[str, MadeFrom]) -> Tracking | None:
    if not run.recipe.report_to:
        return None
    made = made_from.get(model.files.checkpoint)
    identity = f"{run.root.resolve()}\n{made.fingerprint if made else model.id}"
    id = hashlib.sha256(identity.encode()).hexdigest()[:8]
    name = f"{run.root.name}/seed-{model.seed}/{model.id}-{id}"
    return Tracking(run.recipe.report_to, run.recipe.name, name, run.store.path(TRACKING).resolve())


def report_step(
    run: Run, step: Step, counts: Mapping[str, int], made_from: Mapping[str, MadeFrom], registry: Registry
) -> None:
    """Report the metrics of a finished step to the recipe's trackers. Raises the errors of the trackers."""
    if not run.recipe.report_to:
        return
    student = bound_model(run.recipe, "student", registry)
    notes = run.store.finished_steps()
    for model, metrics in _metrics(run, step, counts):
        tracking = _tracked(run, model, made_from)
        if tracking is not None and metrics:
            trained = notes.get(model.files.checkpoint)
            helpers.report(registry, student, tracking, metrics, trained.counts.get("steps", 0) if trained else 0)


def _metrics(run: Run, step: Step, counts: Mapping[str, int]) -> Iterator[tuple[PlannedModel, Metrics]]:
    """Yield the metrics of a step, by model: pairs, the mean of scores, and at the end the results of each model."""
    if isinstance(step, Summarise):
        yield from _results(run)
        return
    for model in run.plan.models:
        if model.files.has(step.output):
            if isinstance(step, MakePairs):
                yield model, {name.replace(" ", "_"): count for name, count in counts.items()}
            elif isinstance(step, Judge):
                rows = run.store.read(step.output, Judgement)
                scores = [row.score for row in rows if row.score is not None]
                name = "gold" if step.worker.role == "evaluator" else "score"
                yield (
                    model,
                    {f"{name}_{step.output.rpartition('/')[2].removesuffix('.jsonl')}": fmean(scores)}
                    if scores
                    else {},
                )


def _results(run: Run) -> Iterator[tuple[PlannedModel, Metrics]]:
    try:
        summary = read_summary(run.summary)
    except InputError:  # a recipe without an evaluation
        return
    for model in run.plan.models:
        rows = (row for row in summary.models if (row.id, row.seed) == (model.id, model.seed))
        metrics = {name: metric.value for row in rows for name, metric in row.metrics.items()}
        for comparison in summary.comparisons:
            if (comparison.left, comparison.seed) == (model.id, model.seed):
                metrics[f"win_rate_over_{comparison.right}"] = comparison.win_rate.value
        yield model, {name: value for name, value in metrics.items() if value is not None}
