"""The settings of the plugin, and the model that its actors run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from attrs import evolve, field, frozen, validators

from tutelage import Model, Registry
from tutelage.files.settings import structure
from tutelage.plugins.inspection import HOOKS

NEUTRAL_SETTINGS = ("address", "actors", "cpus", "gpus", "batch_size", "start_seconds")
"""Settings that change no result, or only the rounding of sums (``batch_size``)."""


def _is_another_plugin(_: object, attribute: object, value: str) -> None:
    if value == "ray":
        raise ValueError("the plugin ray cannot run itself on its actors; name the plugin that runs the model")


@frozen
class Worker:
    """The plugin that runs the model on each actor."""

    plugin: str = field(default="transformers", validator=_is_another_plugin)
    """Name of the plugin. It must be installed on each node, in the same version."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of this plugin; `tutelage plugins show NAME` lists them."""


@frozen
class RaySettings:
    """How work is spread over a cluster. Recipes set them under ``models.ROLE.settings``."""

    worker: Worker = field(factory=Worker)
    """The plugin that runs the model on each actor."""
    address: str = ""
    """Address of the cluster, such as `10.0.0.1:6379`, or `auto` for the one that runs on this machine. If empty, a
    cluster on this machine alone is started for the run."""
    actors: int = field(default=2, validator=validators.ge(1))
    """Number of actors. Each has a copy of the model."""
    cpus: float = field(default=1.0, validator=validators.ge(0))
    """CPUs that Ray reserves for each actor."""
    gpus: float = field(default=0.0, validator=validators.ge(0))
    """GPUs that Ray reserves for each actor, and shows to it. An actor without a share sees no GPU."""
    batch_size: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    """Maximum number of items that an actor gets at once. If left out, a chunk of the run: the records are then those
    of one process, byte for byte."""
    start_seconds: float = field(default=600.0, validator=validators.gt(0))
    """Maximum time without any actor that can work, in seconds: while the first one starts, or after all are lost."""


@cache
def registry(worker: str) -> Registry:
    """Return the plugins that are installed on this machine, for calls of the plugin ``worker``.

    Those that wrap hooks of other plugins are left out. They already run around the hooks of the plugin ``ray``.
    """
    found = Registry.discover()
    wrapping = {name for hook in HOOKS for name in found.wrappers(hook)}
    for name in wrapping - {found.name_of(worker)}:
        found.unregister(name)
    return found


def settings_of(model: Model) -> RaySettings:
    """Return the settings of a model that is bound to this plugin. Raises ``InputError`` if they are wrong."""
    return structure(RaySettings, dict(model.settings), f"settings of {model.id or 'the model'} for plugin 'ray'")


def worker_model(model: Model, settings: RaySettings) -> Model:
    """Return the model as the plugin on the actors gets it."""
    return evolve(model, plugin=settings.worker.plugin, settings=dict(settings.worker.settings))
