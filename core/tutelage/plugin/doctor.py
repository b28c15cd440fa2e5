"""Whether the plugins find what they need: SDK, key, endpoint, model, GPU. At most one call each, and a free one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from attrs import frozen

from tutelage.errors import InputError, TutelageError
from tutelage.plugin.registry import Registry
from tutelage.plugin_info import Finding, PluginInfo
from tutelage.records import Model


@frozen
class Diagnosis:
    """One finding, and whose it is."""

    plugin: str
    role: str
    """The role whose model was looked at; empty for a plugin as it is without a recipe."""
    finding: Finding


def examine(registry: Registry, models: Iterable[Model] = ()) -> list[Diagnosis]:
    """Look at every plugin with its default settings, or only at what the ``models`` of a recipe need.

    Problems are findings; nothing is raised for them.
    """
    chosen = list(models)
    if chosen:
        return [found for model in chosen for found in _diagnoses(registry, model)]
    names = dict.fromkeys(status.name for status in registry.statuses())
    return [found for name in names for found in _diagnoses(registry, Model(name))]


def _diagnoses(registry: Registry, model: Model) -> Iterator[Diagnosis]:
    for finding in _findings(registry, model):
        yield Diagnosis(model.plugin, model.id, finding)


def _findings(registry: Registry, model: Model) -> Iterator[Finding]:
    try:
        info = registry.info(model.plugin)
    except TutelageError as error:
        yield Finding("plugin", False, str(error))
        return
    if info.check is None:
        yield from _environment(info)
        return
    try:
        settings = registry.settings(model.plugin, model.settings, f"plugin {model.plugin}")
    except InputError as error:
        yield Finding("settings", False, str(error))
        return
    yield from info.check(settings, model.name)


def _environment(info: PluginInfo) -> Iterator[Finding]:
    """For a plugin without a check of its own: whether the variables that it needs are set."""
    missing = [variable for variable in info.environment if variable.required and not os.environ.get(variable.name)]
    for variable in missing:
        yield Finding("environment", False, f"{variable.name} is not set: {variable.help}")
    if not missing:
        yield Finding("plugin", True, "loads, and needs nothing more that can be checked")
