"""What a recipe judges with the section ``judging``: the candidates of its pipelines, and the models' own judging."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.planning.declared import Declared, judging_of
from tutelage.planning.roles import answering_role, bound_model, judging_roles
from tutelage.plugins.registry import Registry
from tutelage.plugins.stage_checks import score_problems
from tutelage.recipe.schema import Judging, Recipe
from tutelage.records import Rubric


def measures_judging(recipe: Recipe) -> bool:
    """Whether the models' own judging is compared with the gold scores."""
    evaluation = recipe.evaluation
    return evaluation is not None and evaluation.sampled > 1 and evaluation.agreement_prompts > 0


def judging_uses(recipe: Recipe, known: Declared) -> Iterator[tuple[str, Judging, str]]:
    """Yield the key of the section, its values, and the role of the judge, for everything that is judged with it.

    ``known`` has the declarations of the pipelines. A step with a rubric of its own has it in the values.
    """
    for name in recipe.pipelines:
        for step in known.pipelines[name].judges:
            judging = recipe.for_pipeline(name).judging
            key = "judging" if judging == recipe.judging else f"pipelines.{name}.judging"
            for role in judging_roles(recipe, step.by):
                yield key, judging_of(step, judging), role
    if measures_judging(recipe):
        yield "judging", recipe.judging, answering_role(recipe)


def expected_score_problems(
    recipe: Recipe, registry: Registry, known: Declared, roles: frozenset[str]
) -> Iterator[str]:
    """Yield each reason why a judge of the recipe cannot give expected scores, as ``KEY: problem and remedy``.

    ``roles`` are those whose binding is right. A rubric that does not exist is reported by its own key.
    """
    rubrics = registry.offered("rubrics")
    for key, judging, role in judging_uses(recipe, known):
        if judging.score == "parsed" or role not in roles or judging.rubric not in rubrics:
            continue
        plugin = bound_model(recipe, role, registry).plugin
        problems = score_problems(registry, plugin, judging.score, rubrics[judging.rubric], judging.samples)
        yield from (f"{key}.{line}" for line in problems)


def rubrics_of_expected_scores(
    recipe: Recipe, registry: Registry, known: Declared, roles: frozenset[str]
) -> tuple[Rubric, ...]:
    """Return the rubrics with which a judge that fills one of ``roles`` gives expected scores."""
    rubrics = registry.offered("rubrics")
    uses = judging_uses(recipe, known)
    names = {one.rubric for _, one, role in uses if one.score == "expected" and role in roles}
    return tuple(rubrics[name] for name in sorted(names) if name in rubrics)
