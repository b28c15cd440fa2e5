"""The roles of a recipe, resolved: which model, which service, which rubric and which pair rule."""

from __future__ import annotations

from tutelage.errors import InputError, nearest
from tutelage.files.settings import structure
from tutelage.plugin.registry import Registry
from tutelage.preferences.judging import ADDITIVE_REASON_FIRST_RUBRIC, ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.preferences.pairing import RULES, PairRule
from tutelage.recipe.schema import Binding, Recipe
from tutelage.records import Model, Rubric
from tutelage.services.requests import Endpoint

BUILT_IN_RUBRICS = {rubric.name: rubric for rubric in (ADDITIVE_RUBRIC, ADDITIVE_REASON_FIRST_RUBRIC, PAIRWISE_RUBRIC)}


def binding(recipe: Recipe, role: str) -> Binding | None:
    """What a recipe binds to a role; the teacher judges where no judge is bound."""
    found: Binding | None = getattr(recipe.models, role)
    return recipe.models.teacher if found is None and role == "judge" else found


def check_binding(role: str, bound: Binding | None, hooks: set[str], registry: Registry) -> None:
    """Check that a role is bound to a working plugin with the hooks it needs, and that its settings are right."""
    if bound is None:
        raise InputError(f"models.{role}: missing; this recipe needs a {role} (or use --{role} NAME[:MODEL])")
    if bound.plugin not in {status.name for status in registry.statuses()}:
        known = nearest(bound.plugin, registry.names())
        raise InputError(f"models.{role}.plugin: no plugin {bound.plugin!r} is installed{known}")
    for hook in sorted(hooks):
        registry.require(bound.plugin, hook)
    settings = registry.info(bound.plugin).settings
    if settings is not None:
        structure(settings, dict(bound.settings), f"models.{role}.settings (plugin {bound.plugin})")
    elif bound.settings:
        raise InputError(f"models.{role}.settings: the plugin {bound.plugin} has no settings; leave them out")
    registry.find_model(bound.model)


def bound_model(recipe: Recipe, role: str, registry: Registry) -> Model:
    """The model that a role is bound to, with a plugin's named model resolved to its location."""
    bound = binding(recipe, role)
    if bound is None:
        raise InputError(f"models.{role}: missing")
    named = registry.find_model(bound.model)
    return Model(bound.plugin, named.location if named else bound.model, dict(bound.settings), role)


def endpoint_of(recipe: Recipe, role: str, registry: Registry) -> Endpoint | None:
    """The service that a role's plugin calls; None where it calls none."""
    model = bound_model(recipe, role, registry)
    info = registry.info(model.plugin)
    if info.endpoint is None:
        return None
    settings = structure(info.settings, dict(model.settings), f"models.{role}.settings") if info.settings else None
    return info.endpoint(settings, model.name)


def find_rubric(name: str, registry: Registry) -> Rubric:
    """A rubric by built-in or qualified name. Raises InputError naming the nearest."""
    if found := BUILT_IN_RUBRICS.get(name) or registry.find_rubric(name):
        return found
    raise InputError(f"no rubric {name!r}{nearest(name, BUILT_IN_RUBRICS)}")


def find_rule(name: str, registry: Registry) -> PairRule:
    """A pair rule by built-in or qualified name. Raises InputError naming the nearest."""
    if found := RULES.get(name) or registry.find_pair_rule(name):
        return found
    raise InputError(f"no pair rule {name!r}{nearest(name, RULES)}")
