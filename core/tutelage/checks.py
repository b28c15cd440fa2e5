"""Everything that can be known to be wrong before a run starts: roles, plugins, settings, data, rubrics, pair rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tutelage.calling import Endpoint
from tutelage.data.decontamination import evaluation_prompts, fresh_slice
from tutelage.data.sets import Sets, load_examples, load_prompts, load_rated, load_seed_prompts
from tutelage.errors import InputError, PluginError, TutelageError, nearest
from tutelage.judging import ADDITIVE_REASON_FIRST_RUBRIC, ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.pairing import RULES, PairRule
from tutelage.pipelines import CONTROLS, PIPELINES, make_plan, roles_needed
from tutelage.prompting import LISTINGS, showable
from tutelage.recipe import Binding, Control, PipelineSettings, Recipe
from tutelage.records import Model, Rubric
from tutelage.registry import Registry
from tutelage.settings import structure
from tutelage.steps import Plan

BUILT_IN_RUBRICS = {rubric.name: rubric for rubric in (ADDITIVE_RUBRIC, ADDITIVE_REASON_FIRST_RUBRIC, PAIRWISE_RUBRIC)}


def checked_plan(recipe: Recipe, registry: Registry) -> Plan:
    """The plan of a recipe whose every part has been looked up, and nothing run or written.

    Raises PluginError where a plugin is broken, blocked or lacks a hook, otherwise InputError with every problem found.
    """
    _raise_all(_pipeline_problems(recipe))
    for role, hooks in roles_needed(recipe).items():
        check_binding(role, binding(recipe, role), hooks, registry)
    _raise_all(_problems(recipe, registry))
    if recipe.budget is not None:
        _raise_all(_price_problems(recipe, registry))
    return make_plan(recipe)


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


def sets_of(registry: Registry) -> Sets:
    """The sets that the installed plugins offer."""
    return Sets(registry.find_prompt_set, registry.find_example_set, registry.find_rated_set)


def _raise_all(problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise InputError("\n".join(found))


def _pipeline_problems(recipe: Recipe) -> Iterator[str]:
    for name in recipe.pipelines:
        if name not in PIPELINES:
            yield f"pipelines: no pipeline {name!r}{nearest(name, PIPELINES)}"
    for name, control in recipe.controls.items():
        if name not in CONTROLS:
            yield f"controls: no control {name!r}{nearest(name, CONTROLS)}"
        if control.mirrors not in recipe.pipelines:
            yield f"controls.{name}.mirrors: this recipe runs no pipeline {control.mirrors!r}" + nearest(
                control.mirrors, recipe.pipelines
            )


def _price_problems(recipe: Recipe, registry: Registry) -> Iterator[str]:
    for role in roles_needed(recipe):
        endpoint = endpoint_of(recipe, role, registry)
        if endpoint is not None and endpoint.cost(1, 1) is None:
            yield (
                f"budget: the price of {endpoint.model!r}, the {role}, is unknown; set models.{role}.settings."
                "price to {input: ..., output: ...}, US dollars for a million tokens (0 where it costs nothing)"
            )


def _problems(recipe: Recipe, registry: Registry) -> Iterator[str]:
    data, sets, seed = recipe.data, sets_of(registry), recipe.seeds[0]
    yield from _problem("data.prompts", lambda: _check_prompts(recipe, sets, seed))
    if (ift := data.ift) is not None:
        yield from _problem("data.ift", lambda: load_examples(sets, ift.source, ift.count, seed))
    if (eft := data.eft) is not None:
        yield from _problem("data.eft", lambda: load_rated(sets, eft.source, eft.count, seed))
    for key, pipeline in recipe.pipelines.items():
        yield from _problem(f"{key}.judging.rubric", lambda name=pipeline.judging.rubric: find_rubric(name, registry))
    members: dict[str, PipelineSettings | Control] = {**recipe.pipelines, **recipe.controls}
    for key, member in members.items():
        if member.pairs.rule:
            yield from _problem(f"{key}.pairs.rule", lambda name=member.pairs.rule: find_rule(name, registry))
    if (evaluation := recipe.evaluation) is not None:
        source = evaluation.prompts
        yield from _problem("evaluation.prompts", lambda: load_prompts(sets, source.source, source.count, seed))
        yield from _problem("evaluation.rubric", lambda: find_rubric(evaluation.rubric, registry))
        name = evaluation.comparison_rubric
        yield from _problem("evaluation.comparison_rubric", lambda: find_rubric(name, registry))


def _check_prompts(recipe: Recipe, sets: Sets, seed: int) -> None:
    """Raise InputError where the source has not enough prompts for all rounds, or none to show to who writes them."""
    prompts = recipe.data.prompts
    if (writing := prompts.self_instruct) is None:
        known = evaluation_prompts(recipe, sets, seed)
        wanted = (prompts.count or 0) * recipe.iterations
        fresh_slice(lambda count: load_prompts(sets, prompts.source, count, seed), 0, wanted, known)
    elif not showable(load_seed_prompts(sets, prompts.source, writing.seeds, seed), LISTINGS[writing.listing]):
        raise InputError(f"{prompts.source}: no prompt in it can be shown as an example (listing {writing.listing})")


def _problem(key: str, look: Callable[..., Any]) -> Iterator[str]:
    try:
        look()
    except PluginError:
        raise
    except TutelageError as error:
        yield f"{key}: {error}"
