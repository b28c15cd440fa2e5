"""The checks of ``tutelage doctor``: whether the SDK, key, endpoint, model and GPU of each plugin are available.

Each plugin makes at most one call to a service, which must be free.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from attrs import frozen

from tutelage.errors import InputError, TutelageError
from tutelage.plugin_info import Finding, PluginInfo
from tutelage.plugins import helpers
from tutelage.plugins.registry import Registry
from tutelage.records import Model


@frozen
class Diagnosis:
    """One finding, with the plugin and the role that it concerns."""

    plugin: str
    role: str
    """The role whose model was checked; for a plugin that wraps hooks ``wraps`` and the roles. Empty if the plugin was
    checked with its default settings."""
    finding: Finding


def examine(registry: Registry, models: Iterable[Model] = ()) -> list[Diagnosis]:
    """Check every plugin with its default settings, or only the ``models`` of a recipe if there are any.

    Problems are returned as findings, not raised.
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
    try:
        registry.settings(model.plugin, model.settings, f"plugin {model.plugin}")
    except InputError as error:
        yield Finding("settings", False, str(error))
        return
    try:
        found = helpers.check(registry, model)
    except TutelageError as error:
        yield Finding("check", False, str(error))
        return
    yield from _environment(info) if found is None else found


def _environment(info: PluginInfo) -> Iterator[Finding]:
    """Check the required environment variables of a plugin that has no check of its own."""
    missing = [variable for variable in info.environment if variable.required and not os.environ.get(variable.name)]
    for variable in missing:
        yield Finding("environment", False, f"{variable.name} is not set: {variable.help}")
    if not missing:
        yield Finding("plugin", True, "loaded; nothing else to check")
