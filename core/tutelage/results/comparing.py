"""Compare models of one or several runs on the prompts that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.measures import SeedMeasurement, measure_metrics, observations
from tutelage.evaluation.scores import GradedAnswer, score_metrics
from tutelage.evaluation.significance import Observation, Separation, compare, holm, pairable
from tutelage.measure import MeasureInfo
from tutelage.recipe.differences import differing
from tutelage.recipe.variants import BASE
from tutelage.results.run_results import METRICS, measured_value
from tutelage.results.selecting import SelectedModel, run_labels
from tutelage.results.summary import coverage_of


@frozen
class ComparedModel:
    """A model with its metrics and its difference to another model."""

    name: str
    run: str
    variant: str
    model: str
    seed: int | None
    metrics: Mapping[str, Metric]
    """The metrics of the greedy answers, see ``score_metrics``."""
    against: str | None = None
    """Name of the model that it is compared with; None if it is not compared."""
    separation: Separation | None = None
    """The difference: this model minus the other one, on the prompts for which both have a value."""
    p_value_adjusted: float | None = None
    """p-value adjusted for the number of comparisons (Holm, 1979)."""


@frozen
class ModelsCompared:
    """The comparison of several models."""

    metric: str
    models: tuple[ComparedModel, ...]
    recipes: Mapping[str, Mapping[str, object]]
    """The keys in which the recipes differ: the value of each recipe by the name of its run or variant."""
    notes: tuple[str, ...]
    """What limits the comparison, for the reader."""
    measure: MeasureInfo | None = None
    """The measure, if the metric is one of a plugin."""


def compare_models(
    models: Sequence[SelectedModel], metric: str, against: str | None = None, first: bool = False
) -> ModelsCompared:
    """Compare each model with another one, paired by prompt, and by seed if both have the seed.

    ``against`` names the other model. By default, it is the model of the same id in the first run, variant or seed; if
    there is only one, or with ``first``, it is the first model. ``metric`` is one of ``METRICS``, or a measure of
    the runs. Raises ``InputError`` if there is no model ``against`` and no such metric, fewer than two models have
    answers with gold scores, or two compared models have no prompt in common.
    """
    measure = "" if metric in METRICS else metric
    info = _measure(models, measure) if measure else None
    measured = [model for model in models if model.is_measured(measure)]
    missing = f"it has no values of {measure}" if measure else "its answers are not scored yet"
    notes = [f"{model.name} is left out: {missing}" for model in models if model not in measured]
    if len(measured) < 2:
        needed = f"values of {measure}" if measure else "scored answers"
        raise InputError("\n".join([f"at least two models with {needed} are required to compare", *notes]))
    others = _others(measured, against, first)
    answers = {model.name: model.answers() for model in measured}
    values = {model.name: model.measured(measure) for model in measured} if measure else {}
    observed = {
        name: list(observations(values[name]) if measure else _observations(answers[name], metric)) for name in answers
    }
    separations = {
        name: _separation(name, observed[name], other, observed[other], metric) for name, other in others.items()
    }
    adjusted = dict(zip(separations, holm([one.p_value for one in separations.values()]), strict=True))
    compared = tuple(
        ComparedModel(
            name=model.name,
            run=model.run,
            variant=model.variant,
            model=model.model,
            seed=model.seed,
            metrics={**score_metrics(answers[model.name]), **_measured(measure, info, values.get(model.name, ()))},
            against=others.get(model.name),
            separation=separations.get(model.name),
            p_value_adjusted=adjusted.get(model.name),
        )
        for model in measured
    )
    recipes = recipes_of(measured)
    unknown = {one.difference.no_interval for one in separations.values()} - {""}
    notes += [f"a difference has no interval, because {reason}" for reason in sorted(unknown)]
    limits = _limits(observed, others, "has a value") if measure else _limits(answers, others, "answered it")
    notes += [*limits, *_different_measures(measured, measure)]
    return ModelsCompared(metric, compared, recipes, tuple(notes), info)


def recipes_of(models: Sequence[SelectedModel]) -> dict[str, dict[str, object]]:
    """Return the recipe keys that differ, with the value of each run or variant that a model was selected from."""
    labels = run_labels([model.run for model in models])
    recipes = {}
    for model in models:
        name = labels[model.run] if model.variant == BASE else f"{labels[model.run]}@{model.variant}"
        recipes[name] = evolve(model.results.run.recipe, variants={}, grid={})
    return {key: dict(zip(recipes, values, strict=True)) for key, values in differing(list(recipes.values())).items()}


def _others(models: Sequence[SelectedModel], against: str | None, first: bool) -> dict[str, str]:
    """Return the name of the model that each model is compared with."""
    names = [model.name for model in models]
    if against is not None:
        if against not in names:
            raise InputError(f"--against {against}: no such model{nearest(against, names)}")
        return {name: against for name in names if name != against}
    groups = list(dict.fromkeys(model.group for model in models))
    if first or len(groups) == 1:
        return dict.fromkeys(names[1:], names[0])
    of_first = {model.model: model.name for model in models if model.group == groups[0]}
    return {
        model.name: of_first[model.model] for model in models if model.group != groups[0] and model.model in of_first
    }


def _measure(models: Sequence[SelectedModel], name: str) -> MeasureInfo:
    """The measure with this name of one of the runs."""
    known = {key: info for model in reversed(models) for key, info in model.results.reader.measures.items()}
    if name not in known:
        raise InputError(f"--metric {name}: no such metric{nearest(name, (*METRICS, *known))}")
    return known[name]


def _measured(name: str, info: MeasureInfo | None, values: Sequence[SeedMeasurement]) -> dict[str, Metric]:
    if info is None:
        return {}
    return dict(zip((name, coverage_of(name)), measure_metrics(values, info.is_share), strict=True))


def _separation(
    name: str, values: Sequence[Observation], other: str, its_values: Sequence[Observation], metric: str
) -> Separation:
    found = compare(*pairable(values, its_values))
    if found.difference.n == 0:
        raise InputError(
            f"{name} and {other} have no prompt in common for which both have a value of {metric}. Prompts that a "
            "recipe draws by seed differ between seeds; to compare runs of different seeds, give their recipes the "
            "same file as evaluation.prompts.source"
        )
    return found


def _observations(answers: Sequence[GradedAnswer], metric: str) -> Iterator[Observation]:
    for answer in answers:
        value = measured_value(answer, metric)
        if value is not None:
            yield Observation(answer.prompt_id, value, answer.seed)


def _limits(
    answers: Mapping[str, Sequence[GradedAnswer | Observation]], others: Mapping[str, str], has: str
) -> Iterator[str]:
    """Yield what limits the comparisons: prompts that only one model has, and models without a common seed."""
    unmatched, seedless = [], []
    for name, other in others.items():
        left, right = answers[name], answers[other]
        prompts = [{answer.prompt_id for answer in side} for side in (left, right)]
        if len(prompts[0] ^ prompts[1]):
            unmatched.append((name, other, len(prompts[0] ^ prompts[1])))
        if not {answer.seed for answer in left} & {answer.seed for answer in right}:
            seedless.append((name, other))
    for name, other, count in unmatched:
        yield f"{name} and {other}: {count:,} prompts are ignored, because only one of them {has}"
    if seedless:
        which = "the models" if len(seedless) == len(others) else ", ".join(f"{one} and {two}" for one, two in seedless)
        yield (
            f"{which} have no seed in common and are paired by prompt alone, so that the intervals of their difference "
            "do not contain the variation between seeds"
        )


def _different_measures(models: Sequence[SelectedModel], measure: str) -> Iterator[str]:
    """Yield a warning if the gold scores are of different evaluators or rubrics, or the measures differ."""
    recipes = [model.results.run.recipe for model in models]
    if measure:
        uses = [recipe.evaluation.measures[measure] for recipe in recipes if recipe.evaluation is not None]
        if any(use != uses[0] for use in uses):
            yield f"{measure} is another measure, or has other settings, in some of the runs"
        return
    if any(recipe.models.evaluator != recipes[0].models.evaluator for recipe in recipes):
        yield "the gold scores are of different evaluators: a difference may be one of the evaluators"
    rubrics = {recipe.evaluation.rubric for recipe in recipes if recipe.evaluation is not None}
    if len(rubrics) > 1:
        yield f"the gold scores are by different rubrics: {', '.join(sorted(rubrics))}"
