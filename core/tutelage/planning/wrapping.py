"""The plugins that wrap hooks in a recipe: their checks, and the hooks and roles that each of them wraps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from tutelage.errors import nearest
from tutelage.hookspecs import STAGES
from tutelage.planning.declared import BUILT_IN, Declared
from tutelage.planning.pipelines import roles_needed
from tutelage.planning.problem_list import Problems
from tutelage.planning.roles import binding, includes_role, jurors, wrappers_of
from tutelage.plugins.registry import Registry
from tutelage.recipe.bindings import WRAPPED_ROLES, Wrapping
from tutelage.recipe.schema import Recipe


def wrapped_hooks(recipe: Recipe, registry: Registry, known: Declared = BUILT_IN) -> dict[str, dict[str, list[str]]]:
    """Return the stages that each wrapper wraps in a recipe, by the name of its plugin, each with the roles."""
    found: dict[str, dict[str, list[str]]] = {}
    for role, hooks in roles_needed(recipe, known).items():
        for name in wrappers_of(recipe, role, registry):
            for hook in hooks:
                if name in registry.wrappers(hook):
                    found.setdefault(name, {}).setdefault(hook, []).append(role)
    return {name: {hook: found[name][hook] for hook in STAGES if hook in found[name]} for name in sorted(found)}


def wrapping_roles(recipe: Recipe, registry: Registry, known: Declared = BUILT_IN) -> dict[str, list[str]]:
    """Return the roles in which each wrapper wraps a hook, by the name of its plugin.

    The hooks are the stages that steps call with the model of the role, and others (``requests_at_once``) that the
    plugin of the model implements.
    """
    found: dict[str, list[str]] = {}
    for role, stages in roles_needed(recipe, known).items():
        bound = binding(recipe, role)
        plugin = registry.name_of(bound.plugin) if bound is not None else None
        for name in wrappers_of(recipe, role, registry):
            hooks = registry.wrapped_by(name)
            if any(hook in stages if hook in STAGES else plugin in registry.names(hook) for hook in hooks):
                found.setdefault(name, []).append(role)
    return {name: found[name] for name in sorted(found)}


def wrapped_words(wrapped: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Return a line for each wrapper: ``slow wraps judge of judge, evaluator``."""
    return [
        f"{name} wraps " + "; ".join(f"{hook} of {', '.join(roles)}" for hook, roles in hooks.items())
        for name, hooks in wrapped.items()
    ]


def check_wrappers(recipe: Recipe, registry: Registry, known: Declared, problems: Problems) -> None:
    """Add each problem of the section ``wrappers``, and of the settings of wrappers that it does not name."""
    given: dict[str, str] = {}
    for key, own in recipe.wrappers.items():
        where, name = f"wrappers.{key}", registry.name_of(key)
        if problems.attempt(where, partial(registry.info, key)) is None:
            continue
        if name in given:
            problems.add(f"{where}: {given[name]} is the same plugin; leave one of them out")
        given[name] = key
        if name not in registry.wrappers():
            problems.add(f"{where}: {registry.label(name)} wraps no hook; leave it out, or bind it to a role in models")
        problems.add_all(_role_problems(own, recipe), f"{where}.roles")
        if own.roles != ():
            problems.attempt("", partial(registry.settings, name, own.settings, f"{where}.settings"))
    for name in wrapped_hooks(recipe, registry, known):
        if name not in given:
            problems.attempt("", partial(registry.settings, name, {}, f"wrappers.{name}.settings"))


def idle_wrappers(recipe: Recipe, registry: Registry, known: Declared) -> Iterator[str]:
    """Yield a notice for each wrapper that the recipe names and that wraps no hook of its models.

    A wrapper with settings that it cannot get has a notice, too. Wrappers with a problem that ``check_wrappers``
    reports have none.
    """
    roles = wrapping_roles(recipe, registry, known)
    for key, own in recipe.wrappers.items():
        name = registry.name_of(key)
        if name not in registry.wrappers() or any(_role_problems(own, recipe)) or own.roles == ():
            continue
        hooks = registry.wrapped_by(name)
        if name not in roles:
            yield f"wrappers.{key}: has no effect, because no step calls a hook that it wraps with a model of its roles"
        elif own.settings and not {*STAGES}.intersection(hooks):
            reason = f"the wrappers of {', '.join(hooks)} get no settings: only those of hooks with context do"
            yield f"wrappers.{key}.settings: has no effect, because {reason}"


def _role_problems(own: Wrapping, recipe: Recipe) -> Iterator[str]:
    roles = (*WRAPPED_ROLES, *jurors(recipe))
    for role in own.roles or ():
        if not any(includes_role(role, one) for one in roles):
            yield f"no role {role!r}{nearest(role, roles)}"
