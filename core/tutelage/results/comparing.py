"""Compare models of one or several runs on the prompts that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.evaluation.intervals import Metric
from tutelage.evaluation.scores import GradedAnswer, score_metrics
from tutelage.evaluation.significance import Observation, Separation, compare, holm, pairable
from tutelage.recipe.differences import differing
from tutelage.recipe.variants import BASE
from tutelage.results.run_results import measured_value
from tutelage.results.selecting import SelectedModel, run_labels


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


def compare_models(
    models: Sequence[SelectedModel], metric: str, against: str | None = None, first: bool = False
) -> ModelsCompared:
    """Compare each model with another one, paired by prompt, and by seed if both have the seed.

    ``against`` names the other model. By default, it is the model of the same id in the first run, variant or seed; if
    there is only one, or with ``first``, it is the first model. ``metric`` is one of ``METRICS``. Raises
    ``InputError`` if there is no model ``against``, fewer than two models have answers with gold scores, or two
    compared models have no prompt in common.
    """
    measured = [model for model in models if model.is_measured()]
    notes = [f"{model.name} is left out: its answers are not scored yet" for model in models if model not in measured]
    if len(measured) < 2:
        raise InputError("\n".join(["at least two models with scored answers are required to compare", *notes]))
    others = _others(measured, against, first)
    answers = {model.name: model.answers() for model in measured}
    separations = {
        name: _separation(name, answers[name], other, answers[other], metric) for name, other in others.items()
    }
    adjusted = dict(zip(separations, holm([one.p_value for one in separations.values()]), strict=True))
    compared = tuple(
        ComparedModel(
            name=model.name,
            run=model.run,
            variant=model.variant,
            model=model.model,
            seed=model.seed,
            metrics=score_metrics(answers[model.name]),
            against=others.get(model.name),
            separation=separations.get(model.name),
            p_value_adjusted=adjusted.get(model.name),
        )
        for model in measured
    )
    recipes = recipes_of(measured)
    unknown = {one.difference.no_interval for one in separations.values()} - {""}
    notes += [f"a difference has no interval, because {reason}" for reason in sorted(unknown)]
    notes += [*_limits(answers, others), *_different_measures(measured)]
    return ModelsCompared(metric, compared, recipes, tuple(notes))


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


def _separation(
    name: str, answers: Sequence[GradedAnswer], other: str, its_answers: Sequence[GradedAnswer], metric: str
) -> Separation:
    left, right = pairable(list(_observations(answers, metric)), list(_observations(its_answers, metric)))
    found = compare(left, right)
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


def _limits(answers: Mapping[str, Sequence[GradedAnswer]], others: Mapping[str, str]) -> Iterator[str]:
    """Yield what limits the comparisons: prompts that only one model answered, and models without a common seed."""
    unmatched, seedless = [], []
    for name, other in others.items():
        left, right = answers[name], answers[other]
        prompts = [{answer.prompt_id for answer in side} for side in (left, right)]
        if len(prompts[0] ^ prompts[1]):
            unmatched.append((name, other, len(prompts[0] ^ prompts[1])))
        if not {answer.seed for answer in left} & {answer.seed for answer in right}:
            seedless.append((name, other))
    for name, other, count in unmatched:
        yield f"{name} and {other}: {count:,} prompts are ignored, because only one of them answered it"
    if seedless:
        which = "the models" if len(seedless) == len(others) else ", ".join(f"{one} and {two}" for one, two in seedless)
        yield (
            f"{which} have no seed in common and are paired by prompt alone, so that the intervals of their difference "
            "do not contain the variation between seeds"
        )


def _different_measures(models: Sequence[SelectedModel]) -> Iterator[str]:
    """Yield a warning if the gold scores are of different evaluators or rubrics."""
    recipes = [model.results.run.recipe for model in models]
    if any(recipe.models.evaluator != recipes[0].models.evaluator for recipe in recipes):
        yield "the gold scores are of different evaluators: a difference may be one of the evaluators"
    rubrics = {recipe.evaluation.rubric for recipe in recipes if recipe.evaluation is not None}
    if len(rubrics) > 1:
        yield f"the gold scores are by different rubrics: {', '.join(sorted(rubrics))}"
