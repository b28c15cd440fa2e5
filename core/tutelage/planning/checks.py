"""The checks before a run starts: roles, plugins, settings, prices, data, rubrics and pair rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tutelage.data.decontamination import evaluation_prompts, fresh_slice
from tutelage.data.sets import Sets, load_examples, load_prompts, load_rated, load_seed_prompts
from tutelage.errors import InputError, PluginError, TutelageError, nearest
from tutelage.planning.pipelines import CONTROLS, PIPELINES, make_plan, roles_needed
from tutelage.planning.roles import binding, check_binding, endpoint_of
from tutelage.planning.sources import own_preferences, sets_of
from tutelage.planning.steps import Plan
from tutelage.plugin.registry import Registry
from tutelage.preferences.prompt_listing import LISTINGS, showable
from tutelage.recipe.problems import recipe_problems
from tutelage.recipe.schema import Recipe, Source


def checked_plan(recipe: Recipe, registry: Registry) -> Plan:
    """Check everything that a recipe names and return its plan. Nothing is run or written.

    Raises PluginError if a plugin is broken, blocked or lacks a hook, otherwise InputError with every problem found.
    """
    _raise_all(_pipeline_problems(recipe))
    _raise_all(recipe_problems(recipe))  # a Recipe that was changed in Python has not been checked yet
    for role, hooks in roles_needed(recipe).items():
        check_binding(role, binding(recipe, role), hooks, registry)
    _raise_all(_problems(recipe, registry))
    if recipe.budget is not None:
        _raise_all(_price_problems(recipe, registry))
    return make_plan(recipe)


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
                "price to {input: ..., output: ...}, in US dollars per million tokens (0 if it is free)"
            )


def _problems(recipe: Recipe, registry: Registry) -> Iterator[str]:
    data, sets, seed = recipe.data, sets_of(registry), recipe.seeds[0]
    if any(PIPELINES[name].samples for name in recipe.pipelines):
        yield from _problem("data.prompts", lambda: _check_prompts(recipe, sets, seed))
    if (ift := data.ift) is not None:
        yield from _problem("data.ift", lambda: load_examples(sets, ift.source, ift.count, seed))
    if (eft := data.eft) is not None:
        yield from _problem("data.eft", lambda: _check_rated(recipe, registry, eft, seed))
    yield from _problem("data.preferences", lambda: _check_preferences(recipe, registry, seed))
    pipelines = {name: recipe.for_pipeline(name) for name in recipe.pipelines}
    for key, pipeline in pipelines.items():
        yield from _problem(f"{key}.judging.rubric", lambda name=pipeline.judging.rubric: registry.get("rubrics", name))
    for key, member in {**pipelines, **{name: recipe.for_control(name) for name in recipe.controls}}.items():
        if member.pairs.rule:
            yield from _problem(f"{key}.pairs.rule", lambda name=member.pairs.rule: registry.get("pair_rules", name))
    if (evaluation := recipe.evaluation) is not None:
        source = evaluation.prompts
        yield from _problem("evaluation.prompts", lambda: load_prompts(sets, source.source, source.count, seed))
        yield from _problem("evaluation.rubric", lambda: registry.get("rubrics", evaluation.rubric))
        name = evaluation.comparison_rubric
        yield from _problem("evaluation.comparison_rubric", lambda: registry.get("rubrics", name))


def _check_rated(recipe: Recipe, registry: Registry, eft: Source, seed: int) -> None:
    """Raise InputError if the source has too few examples, or a score outside the scale of the rubric."""
    rubric = registry.get("rubrics", recipe.judging.rubric)
    load_rated(sets_of(registry), eft.source, eft.count, seed, rubric)


def _check_prompts(recipe: Recipe, sets: Sets, seed: int) -> None:
    """Raise InputError if the source has too few prompts for all rounds, or none that the writer can be shown."""
    prompts = recipe.data.fresh_prompts
    if (self_instruct := prompts.self_instruct) is None:
        known = evaluation_prompts(recipe, sets, seed)
        wanted = (prompts.count or 0) * recipe.iterations
        fresh_slice(lambda count: load_prompts(sets, prompts.source, count, seed), 0, wanted, known)
        return
    seeds = load_seed_prompts(sets, prompts.source, self_instruct.seeds, seed)
    if not showable(seeds, LISTINGS[self_instruct.listing]):
        raise InputError(
            f"{prompts.source}: no prompt in it can be shown as an example (listing {self_instruct.listing})"
        )


def _check_preferences(recipe: Recipe, registry: Registry, seed: int) -> None:
    """Raise InputError if a pair cannot be trained on, if there are too few pairs, or if decontamination drops all."""
    dropped = [held for _, held in own_preferences(recipe, registry, seed)]
    if (source := recipe.data.preferences) is None:
        return
    if source.count is None:
        raise InputError(
            f"count is missing; set the number of pairs ({source.source} has {len(dropped)} different ones)"
        )
    if all(dropped):
        raise InputError(f"{source.source}: every pair contains an evaluation prompt; see data.decontaminate")


def _problem(key: str, look_up: Callable[..., Any]) -> Iterator[str]:
    try:
        look_up()
    except PluginError:
        raise
    except TutelageError as error:
        yield f"{key}: {error}"
