"""The files that a recipe needs and that ``tutelage recipes prepare`` puts onto this machine."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.data.sets import Sets
from tutelage.planning.declared import declared
from tutelage.planning.pipelines import roles_needed
from tutelage.planning.roles import usable_binding
from tutelage.plugin_info import Preparation
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


def preparations(recipe: Recipe, registry: Registry) -> dict[str, Preparation]:
    """Return the preparations of the recipe's models and sets, by the name of the model or set.

    Raises InputError or PluginError if the recipe names a plugin, a model or a set that does not exist.
    """
    return {name: one for name, one in _found(recipe, registry) if one is not None}


def data_files(recipe: Recipe, sets: Sets) -> list[str]:
    """Return the paths of the data files that the recipe reads, each once; sets of plugins are not files."""
    data, evaluation = recipe.data, recipe.evaluation
    prompts = [one.source for one in (data.prompts, evaluation and evaluation.prompts) if one]
    prompts += data.decontaminate.against if data.decontaminate else ()
    found = [one.source for one in (data.ift,) if one and sets.examples(one.source) is None]
    found += [one.source for one in (data.eft,) if one and sets.rated(one.source) is None]
    found += [one.source for one in (data.preferences,) if one and sets.preferences(one.source) is None]
    found += [source for source in prompts if sets.prompts(source) is None]
    return list(dict.fromkeys(found))


def _found(recipe: Recipe, registry: Registry) -> Iterator[tuple[str, Preparation | None]]:
    for role, hooks in roles_needed(recipe, declared(recipe, registry)).items():
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
