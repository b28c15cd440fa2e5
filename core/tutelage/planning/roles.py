"""The roles of a recipe, resolved: which model, which service, which rubric and which pair rule."""

from __future__ import annotations

from tutelage.errors import InputError, nearest
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Binding, Recipe
from tutelage.records import Model, Rubric
from tutelage.services.requests import Endpoint


def binding(recipe: Recipe, role: str) -> Binding | None:
    """What a recipe binds to a role; the teacher judges where no judge is bound."""
    found: Binding | None = getattr(recipe.models, role)
    return recipe.models.teacher if found is None and role == "judge" else found


def check_binding(role: str, bound: Binding | None, hooks: set[str], registry: Registry) -> None:
    """Check that a role is bound to a working plugin with the hooks it needs, and that its settings are right."""
    if bound is None:
        raise InputError(f"models.{role}: missing; this recipe needs a {role} (or use --{role} NAME[:MODEL])")
    if registry.name_of(bound.plugin) not in {status.name for status in registry.statuses()}:
        known = nearest(bound.plugin, registry.names())
        raise InputError(f"models.{role}.plugin: no plugin {bound.plugin!r} is installed{known}")
    for hook in sorted(hooks):
        registry.require(bound.plugin, hook)
    registry.settings(bound.plugin, bound.settings, f"models.{role}.settings (plugin {bound.plugin})")
    registry.find("models", bound.model)


def bound_model(recipe: Recipe, role: str, registry: Registry) -> Model:
    """The model that a role is bound to, with a plugin's named model resolved to its location."""
    bound = binding(recipe, role)
    if bound is None:
        raise InputError(f"models.{role}: missing")
    named = registry.find("models", bound.model)
    return Model(bound.plugin, named.location if named else bound.model, dict(bound.settings), role)


def endpoint_of(recipe: Recipe, role: str, registry: Registry) -> Endpoint | None:
    """The service that a role's plugin calls; None where it calls none."""
    model = bound_model(recipe, role, registry)
    info = registry.info(model.plugin)
    if info.endpoint is None:
        return None
    return info.endpoint(registry.settings(model.plugin, model.settings, f"models.{role}.settings"), model.name)


def find_rubric(name: str, registry: Registry) -> Rubric:
    """A rubric by its name: a built-in one, or one that a plugin offers as ``PLUGIN/NAME``.

    Raises InputError that names the nearest known rubric if there is none of that name.
    """
    return registry.get("rubrics", name)
