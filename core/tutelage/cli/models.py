"""A model as it is named on the command line: ``RUN:M2/self-reward`` of a run, or ``PLUGIN[:NAME]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.errors import InputError
from tutelage.plugin.registry import Registry
from tutelage.recipe.loading import parse_override
from tutelage.records import Model
from tutelage.runs.run import RunModels
from tutelage.runs.store import is_run


def split_run(text: str) -> tuple[Path, str]:
    """The folder and the model of ``RUN[:MODEL]``; the model is empty where none is named."""
    if _is_run(text):
        return Path(text), ""
    folder, colon, model = text.rpartition(":")
    return (Path(folder), model) if colon else (Path(text), "")


def find_model(text: str, registry: Registry, seed: int | None = None, settings: Sequence[str] = ()) -> Model:
    """The model named by ``RUN[:MODEL]`` or ``PLUGIN[:NAME]``; ``settings`` are ``KEY=VALUE`` of its plugin.

    What is a run's folder is a run. Raises InputError where the run or its model is missing, and PluginError where the
    plugin is.
    """
    folder, name = split_run(text)
    if _is_run(folder):
        run = RunModels.open(folder, seed)
        model = run.model(name or run.last(), registry)
    else:
        plugin, _, name = text.partition(":")
        _check_is_plugin(plugin, text, registry)
        named = registry.find("models", name)
        model = Model(plugin, named.location if named else name, id=plugin)
    return evolve(model, settings={**model.settings, **nested(settings)})


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a mapping; a dotted key goes into a mapping of its own. Raises InputError."""
    values: dict[str, Any] = {}
    for key, value in map(parse_override, overrides):
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {key}: {parent!r} has a value already")
        place[last] = value
    return values


def _is_run(folder: str | Path) -> bool:
    return is_run(Path(folder))


def _check_is_plugin(plugin: str, text: str, registry: Registry) -> None:
    if "/" in plugin or Path(plugin).exists():
        raise InputError(f"{text}: neither a run (recipe.yaml is not in {plugin}) nor PLUGIN[:NAME]")
    registry.info(plugin)
