"""The files that a recipe needs and that ``tutelage recipes prepare`` puts onto this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tutelage.data.known_files import known_files
from tutelage.data.sets import Sets
from tutelage.planning.checks import without_unknown
from tutelage.planning.declared import declared
from tutelage.planning.pipelines import roles_needed
from tutelage.planning.roles import usable_binding
from tutelage.planning.sources import sets_of
from tutelage.plugin_info import Preparation
from tutelage.plugins.preparation import fault_of_files
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.recipe.variants import variants_of


def preparations(recipe: Recipe, registry: Registry) -> dict[str, Preparation]:
    """Return the preparations of the models and sets of the recipe and its variants, by the name of the model or set.

    Pipelines and controls that do not exist are left out; the checks before a run report them. Raises InputError or
    PluginError if the recipe names a plugin, a model or a set that does not exist.
    """
    found = (one for each in _with_variants(recipe) for one in _found(each, registry))
    return {name: one for name, one in found if one is not None}


def missing_files(recipe: Recipe, registry: Registry) -> dict[str, str]:
    """Return the models, sets and data files of the recipe that ``recipes prepare`` would make, with the reason.

    Raises as ``preparations`` does.
    """
    faults = {name: fault_of_files(one) for name, one in preparations(recipe, registry).items()}
    files = [path for path in data_files(recipe, sets_of(registry)) if known_files(path) and not Path(path).exists()]
    return {name: fault for name, fault in faults.items() if fault} | dict.fromkeys(files, "does not exist")


def data_files(recipe: Recipe, sets: Sets) -> list[str]:
    """Return the paths of the data files that the recipe and its variants read, each once.

    Sets of plugins are not files.
    """
    return list(dict.fromkeys(path for each in _with_variants(recipe) for path in _data_files(each, sets)))


def _with_variants(recipe: Recipe) -> list[Recipe]:
    return [recipe, *(one.recipe for one in variants_of(recipe))]


def _data_files(recipe: Recipe, sets: Sets) -> list[str]:
    data, evaluation = recipe.data, recipe.evaluation
    prompts = [one.source for one in (data.prompts, evaluation and evaluation.prompts) if one]
    prompts += data.decontaminate.against if data.decontaminate else ()
    found = [one.source for one in (data.ift,) if one and sets.examples(one.source) is None]
    found += [one.source for one in (data.eft,) if one and sets.rated(one.source) is None]
    found += [one.source for one in (data.preferences,) if one and sets.preferences(one.source) is None]
    found += [source for source in prompts if sets.prompts(source) is None]
    return found


def _found(recipe: Recipe, registry: Registry) -> Iterator[tuple[str, Preparation | None]]:
    known = declared(recipe, registry)
    for role, hooks in roles_needed(without_unknown(recipe, known), known).items():
        bound = usable_binding(recipe, role, hooks, registry)
        if (model := registry.find("models", bound.model)) is not None:
            yield bound.model, model.preparation
    data, evaluation = recipe.data, recipe.evaluation
    if data.ift and (examples := registry.find("example_sets", data.ift.source)):
        yield data.ift.source, examples.preparation
    if data.eft and (rated := registry.find("rated_sets", data.eft.source)):
        yield data.eft.source, rated.preparation
    if data.preferences and (pairs := registry.find("preference_sets", data.preferences.source)):
        yield data.preferences.source, pairs.preparation
    sources = [one.source for one in (data.prompts, evaluation and evaluation.prompts) if one]
    for source in (*sources, *(data.decontaminate.against if data.decontaminate else ())):
        if (prompts := registry.find("prompt_sets", source)) is not None:
            yield source, prompts.preparation
