"""The checks of the objectives of a recipe, and of the trackers that their losses are reported to."""

from __future__ import annotations

from functools import partial

from tutelage.objectives import Objective
from tutelage.planning.declared import Declared, member_key
from tutelage.planning.problem_list import Problems
from tutelage.planning.roles import bound_model
from tutelage.plugins.helpers import check_objective, check_report_to, implements
from tutelage.plugins.objectives import objective_problems, untrained
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


def objectives(recipe: Recipe, known: Declared) -> dict[str, Objective]:
    """Return the objectives that the recipe trains with, by key: ``dpo`` or ``pipelines.NAME.dpo``.

    An objective that a pipeline or control inherits has the top-level key.
    """
    found: dict[str, Objective] = {}
    if recipe.data.has_seed_examples:
        found["sft"] = recipe.sft
    for name in (*recipe.pipelines, *recipe.controls):
        found[known.objective_key(recipe, name)] = known.objective(recipe, name)
    return found


def check_objectives(recipe: Recipe, registry: Registry, known: Declared, problems: Problems) -> None:
    """Add each problem of the objectives: a student that does not train them, and their settings."""
    student = bound_model(recipe, "student", registry)
    found = problems.attempt("", lambda: objectives(recipe, known))
    for key, objective in (found or {}).items():
        if problem := untrained(objective, student.plugin, registry):
            problems.add_all(f"{user}: {problem}" for user in _trained_with(key, recipe, known) or (key,))
            continue
        for check in (
            partial(_objective_problems, objective, student.plugin, registry),
            partial(check_objective, registry, student, objective),
        ):
            lines = problems.attempt(key, check)
            problems.add_all(f"{key}.{line}" for line in lines or ())


def _trained_with(key: str, recipe: Recipe, known: Declared) -> list[str]:
    """The keys of the pipelines and controls whose objective has the settings of a key."""
    members = (*recipe.pipelines, *recipe.controls)
    return [f"{member_key(recipe, name)}.objective" for name in members if known.objective_key(recipe, name) == key]


def check_trackers(recipe: Recipe, registry: Registry, problems: Problems) -> None:
    """Add a problem for each experiment tracker that the plugin of the student cannot report to."""
    if not recipe.report_to:
        return
    student = bound_model(recipe, "student", registry)
    if not implements(registry, student.plugin, "check_report_to"):
        problems.add(f"report_to: the plugin {student.plugin!r} reports to no tracker; leave the key out")
        return
    found = problems.attempt("report_to", lambda: check_report_to(registry, student, recipe.report_to))
    problems.add_all(found or (), "report_to")


def _objective_problems(objective: Objective, student: str, registry: Registry) -> list[str]:
    return list(objective_problems(objective, student, registry))
