"""The checks of the measures of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tutelage.errors import InputError
from tutelage.planning.judging_uses import measures_judging
from tutelage.planning.member_checks import is_offered, unknown
from tutelage.planning.problem_list import Problems
from tutelage.plugins.measures import BoundMeasure, bound_measure
from tutelage.plugins.registry import Registry
from tutelage.recipe.bindings import MeasureUse
from tutelage.recipe.schema import Recipe


def check_measures(recipe: Recipe, registry: Registry, problems: Problems) -> None:
    """Add each problem of the measures of a recipe: unknown ones, their settings, and what they are computed from."""
    for name, use in recipe.evaluation.measures.items() if recipe.evaluation is not None else ():
        key = f"evaluation.measures.{name}"
        bound = problems.attempt("", partial(_bound, registry, use, key))
        if bound is None:
            continue
        found = problems.attempt(f"{key}.settings", bound.problems)
        problems.add_all(f"{key}.settings.{line}" for line in found or ())
        if found == []:
            missing = [path for path in problems.attempt(key, bound.files) or () if not path.exists()]
            problems.add_all((f"{path}: no such file or folder, and the measure reads it" for path in missing), key)
        problems.add_all(_over_problems(bound, recipe), key)


def _bound(registry: Registry, use: MeasureUse, key: str) -> BoundMeasure:
    if not is_offered(use.measure, "measures", registry):
        raise InputError(f"{key}.measure: {unknown(use.measure, 'measures', registry)}")
    return bound_measure(registry, use.measure, use.settings, f"{key}.settings")


def _over_problems(bound: BoundMeasure, recipe: Recipe) -> Iterator[str]:
    over = bound.measure.over
    if over == "sampled" and recipe.evaluation is not None and recipe.evaluation.sampled == 0:
        yield "it measures sampled answers, and evaluation.sampled is 0; set it above 0"
    elif over == "judgements" and not measures_judging(recipe):
        yield (
            "it measures the models' own judgements, and there are none; set evaluation.sampled to at least 2 and "
            "evaluation.agreement_prompts above 0"
        )
