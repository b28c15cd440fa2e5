"""The plan of a recipe: the rounds of its pipelines and controls, and the evaluation; and the roles that it needs.

All pipelines share M1 and its samples. A control mirrors the first round of a pipeline, in which both start from the
same model and the same candidates. Later rounds would compare models with different histories.
"""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.pipeline import Pipeline
from tutelage.planning.artifacts import SUMMARY
from tutelage.planning.declared import BUILT_IN, Declared
from tutelage.planning.evaluation_plan import EvaluationPlan
from tutelage.planning.judging_uses import measures_judging
from tutelage.planning.measure_steps import measure_steps
from tutelage.planning.roles import answering_role, judging_roles, role_of
from tutelage.planning.rounds import Round
from tutelage.planning.series import Series, SourceCounts
from tutelage.planning.steps import Plan, PlannedModel, Step, Summarise
from tutelage.recipe.schema import Recipe


def make_plan(recipe: Recipe, counts: SourceCounts | None = None, declared: Declared = BUILT_IN) -> Plan:
    """Return the steps and models of the whole run.

    Depends on the arguments only. The recipe must have passed its checks. ``counts`` changes only the planned numbers
    of items: without it, a source without ``count`` counts as 0. ``declared`` has the pipelines and controls that the
    recipe names.
    """
    steps: dict[str, Step] = {}
    models: list[PlannedModel] = []
    for seed in recipe.seeds:
        series = Series(recipe, seed, counts or SourceCounts(), declared)
        models += series.models()
        evaluation = EvaluationPlan(recipe, seed, tuple(series.models()), series.counts.evaluation)
        made = [*_training_steps(series), *evaluation.steps()]
        for step in (*made, *measure_steps(evaluation, declared, made)):
            steps.setdefault(step.output, step)
    if recipe.evaluation:
        steps[SUMMARY] = Summarise(output=SUMMARY, count=1)
    return Plan(tuple(steps.values()), tuple(models))


def _training_steps(series: Series) -> Iterator[Step]:
    """Yield the steps that make the models of one seed: M1, round by round the pipelines, then the controls."""
    yield from series.first_model()
    for number in range(1, series.recipe.iterations + 1):
        for name in series.pipelines_of(number):
            yield from Round(series, name, number).steps()
    for name in series.recipe.controls:
        yield from Round(series, name, 1).steps()


def roles_needed(recipe: Recipe, declared: Declared = BUILT_IN) -> dict[str, set[str]]:
    """Return the hooks that the plugin of each role must implement."""
    needed: dict[str, set[str]] = {"student": {"train_step"}}

    def need(role: str, hook: str) -> None:
        needed.setdefault(answering_role(recipe, role_of(role)), set()).add(hook)

    members = members_of(recipe, declared)
    if recipe.evaluation:
        need("student", "generate_candidates")
    if any(one.uses_prompts for one in members) and (self_instruct := recipe.data.self_instruct) is not None:
        need(self_instruct.writer, "generate_candidates")
    for one in members:
        for sample in one.samples:
            need(sample.by, "generate_candidates")
        for judge in one.judges:
            for role in judging_roles(recipe, judge.by):
                needed.setdefault(role, set()).add("judge")
        for compare in one.compares:
            need(compare.by, "evaluate")
        for demonstrate in one.demonstrates:
            need(demonstrate.by, "demonstrate")
    if recipe.evaluation:
        need("evaluator", "judge")
        need("evaluator", "evaluate")
        if measures_judging(recipe):
            need("student", "judge")
    return needed


def members_of(recipe: Recipe, declared: Declared) -> list[Pipeline]:
    """Return the declarations of the recipe's pipelines and controls."""
    pipelines = [declared.pipelines[name] for name in recipe.pipelines]
    return [*pipelines, *(declared.controls[name] for name in recipe.controls)]
