"""The roles of a recipe, resolved to models and services, and the rubrics by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from tutelage.errors import InputError
from tutelage.planning.steps import PlannedModel, Worker
from tutelage.plugins.discovery import installation_hint
from tutelage.plugins.helpers import endpoint
from tutelage.plugins.registry import Registry
from tutelage.plugins.suggestions import plugin_hint
from tutelage.recipe.bindings import WRAPPED_ROLES, Binding, Wrapping
from tutelage.recipe.schema import Recipe
from tutelage.records import Model, Rubric
from tutelage.services.requests import Endpoint

GENERATOR = "generator"
"""The role of the student's models when they answer or judge, if the recipe binds another plugin for that."""

_JUROR = "judges."
"""Begins the role of a judge of a jury, before its name."""


def jurors(recipe: Recipe) -> tuple[str, ...]:
    """Return the roles of the judges of the jury; empty if there is one judge."""
    return tuple(f"{_JUROR}{name}" for name in recipe.models.judges)


def judging_roles(recipe: Recipe, by: str) -> tuple[str, ...]:
    """Return the roles that judge in a declared step: for ``judge`` those of the jury, if the recipe has one."""
    return (by == "judge" and jurors(recipe)) or (answering_role(recipe, role_of(by)),)


def role_of(by: str) -> str:
    """Return the role of a model that a declared step names: earlier models of the student have its role."""
    return "student" if by in ("predecessor", "M0") else by


def answering_role(recipe: Recipe, role: str = "student") -> str:
    """Return the role whose model answers or judges for ``role``: for the student its generator, if one is bound."""
    return GENERATOR if role == "student" and recipe.models.student.generator is not None else role


def answerer(recipe: Recipe, model: PlannedModel) -> Worker:
    """Return a model of the plan as the worker of a step in which it answers or judges."""
    return evolve(model.worker, role=answering_role(recipe))


def role_key(role: str) -> str:
    """Return the key of a role's binding in the recipe."""
    return f"models.student.{role}" if role == GENERATOR else f"models.{role}"


def bound_key(recipe: Recipe, role: str) -> str:
    """Return the key of the binding that fills a role: that of the teacher for a judge that is not bound."""
    is_teacher = role == "judge" and recipe.models.judge is None and recipe.models.teacher is not None
    return role_key("teacher" if is_teacher else role)


def binding(recipe: Recipe, role: str) -> Binding | None:
    """Return the binding of a role, None if it has none. If no judge is bound, the judge is the teacher.

    The generator runs the student's model by another plugin.
    """
    if role == GENERATOR:
        student = recipe.models.student
        generator = student.generator
        return None if generator is None else Binding(generator.plugin, student.model, generator.settings)
    if role.startswith(_JUROR):
        return recipe.models.judges.get(role.removeprefix(_JUROR))
    found: Binding | None = getattr(recipe.models, role)
    return recipe.models.teacher if found is None and role == "judge" else found


def usable_binding(recipe: Recipe, role: str, hooks: set[str], registry: Registry) -> Binding:
    """Return the binding of a role that the recipe needs. Plugins with ``hooks`` are suggested in place of a wrong one.

    Raises InputError if the role is not bound or its plugin is not installed, and PluginError if the plugin cannot be
    used.
    """
    bound = binding(recipe, role)
    if bound is None:
        raise InputError(f"{role_key(role)}: missing; this recipe needs a {role} (or use --{role} NAME[:MODEL])")
    if registry.name_of(bound.plugin) not in {status.name for status in registry.statuses()}:
        text = f"{bound.plugin}:{bound.model}".rstrip(":")
        hint = installation_hint(bound.plugin) or plugin_hint(text, registry, hooks)
        raise InputError(f"{bound_key(recipe, role)}.plugin: no plugin {bound.plugin!r} is installed{hint}")
    registry.info(bound.plugin)
    return bound


def bound_model(recipe: Recipe, role: str, registry: Registry) -> Model:
    """Return the model of a role; the name of a plugin's model is resolved to its location.

    Raises InputError if the role is not bound.
    """
    bound = binding(recipe, role)
    if bound is None:
        raise InputError(f"{role_key(role)}: missing; bind a plugin to the {role}")
    named = registry.find("models", bound.model)
    location = named.location if named else bound.model
    return Model(bound.plugin, location, dict(bound.settings), role, wrappers_of(recipe, role, registry))


def wrappers_of(recipe: Recipe, role: str, registry: Registry) -> dict[str, Mapping[str, Any]]:
    """Return the plugins that wrap the hooks of a role, each with the settings that the recipe gives it."""
    given = {registry.name_of(name): own for name, own in recipe.wrappers.items()}
    found: dict[str, Mapping[str, Any]] = {}
    for name in registry.wrappers():
        own = given.get(name, Wrapping())
        wanted = own.roles if own.roles is not None else registry.info(name).wrapped_roles or WRAPPED_ROLES
        if any(includes_role(one, role) for one in wanted):
            found[name] = dict(own.settings)
    return found


def includes_role(wanted: str, role: str) -> bool:
    """Whether a role that a wrapper names includes a role of the run: the generator, or a judge of the jury."""
    return wanted == role or (wanted, role) == ("student", GENERATOR) or (wanted == "judge" and role.startswith(_JUROR))


def endpoint_of(recipe: Recipe, role: str, registry: Registry) -> Endpoint | None:
    """Return the service that a role's plugin calls; None if it calls none."""
    model = bound_model(recipe, role, registry)
    return endpoint(registry, model, f"{bound_key(recipe, role)}.settings")


def find_rubric(name: str, registry: Registry) -> Rubric:
    """Return a rubric by name: a built-in one, or ``PLUGIN/NAME`` for one that a plugin offers.

    Raises InputError with the nearest known name if the rubric does not exist.
    """
    return registry.get("rubrics", name)
