"""Resolve model names of the command line: ``RUN:M2/self-reward`` for a run, ``PLUGIN[:NAME]`` for a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.errors import InputError, PluginError
from tutelage.planning.artifacts import VARIANTS
from tutelage.plugins.preparation import check_prepared
from tutelage.plugins.registry import Registry
from tutelage.plugins.suggestions import plugin_hint
from tutelage.recipe.loading import parse_override
from tutelage.recipe.variants import BASE
from tutelage.records import Model
from tutelage.runs.run import RunModels
from tutelage.runs.store import is_run


def split_run(text: str) -> tuple[Path, str]:
    """Split ``RUN[:MODEL[@VARIANT]]`` into the run's folder and the model's name.

    The name is empty if it is left out. The folder is that of the variant if one is named, ``base`` is the run itself.
    """
    if _is_run(text):
        return Path(text), ""
    folder, colon, model = text.rpartition(":")
    if not colon:
        return Path(text), ""
    model, _, variant = model.partition("@")
    return (Path(folder, VARIANTS, variant) if variant not in ("", BASE) else Path(folder)), model


def find_model(text: str, registry: Registry, seed: int | None = None, settings: Sequence[str] = ()) -> Model:
    """Return the model named by ``RUN[:MODEL]`` or ``PLUGIN[:NAME]``.

    If the first part is the folder of a run, it is taken as a run. ``seed`` selects the seed of the run, ``settings``
    are ``KEY=VALUE`` texts for the model's plugin. Raises ``InputError`` if the run or its model does not exist, and
    ``PluginError`` if the plugin does not exist.
    """
    folder, name = split_run(text)
    if _is_run(folder):
        run = RunModels.open(folder, seed)
        model = run.model(name or run.last(), registry)
    else:
        plugin, _, name = text.partition(":")
        _check_is_plugin(plugin, text, registry)
        named = registry.find("models", name)
        check_prepared(name, named.preparation if named else None)
        model = Model(plugin, named.location if named else name, id=plugin)
    return evolve(model, settings={**model.settings, **nested(settings)})


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a mapping; a dotted key becomes a nested mapping.

    Raises ``InputError`` if a text is not ``KEY=VALUE``, or if one key is both a value and a mapping.
    """
    values: dict[str, Any] = {}
    for key, value in map(parse_override, overrides):
        *parents, last = key.split(".")
        mapping = values
        for parent in parents:
            mapping = mapping.setdefault(parent, {})
            if not isinstance(mapping, dict):
                raise InputError(f"--set {key}: {parent!r} already has a value")
        mapping[last] = value
    return values


def _is_run(folder: str | Path) -> bool:
    return is_run(Path(folder))


def _check_is_plugin(plugin: str, text: str, registry: Registry) -> None:
    known = {status.name for status in registry.statuses()}
    if registry.name_of(plugin) in known:
        registry.info(plugin)
    elif "/" in plugin or Path(plugin).exists():
        hint = "" if Path(plugin).parts[0] == "runs" else plugin_hint(text, registry)
        raise InputError(f"{text}: neither a run ({plugin} contains no recipe.yaml) nor PLUGIN[:NAME]{hint}")
    else:
        raise PluginError(f"plugin {plugin!r} is not installed{plugin_hint(text, registry)}")
