"""The checks of the plugin: Ray, the address of the cluster, and the plugin that runs the model on the actors."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Iterator

from tutelage import Finding, Model, RunNeeds
from tutelage.errors import InputError, TutelageError
from tutelage.objectives import Dpo, Objective
from tutelage.plugins import helpers
from tutelage.plugins.objectives import untrained
from tutelage_ray.settings import RaySettings, registry, worker_model

_CONNECT_SECONDS = 5.0
_OF_ONE_MACHINE = {"memory", "device", "GPU"}
"""Findings about this machine. The model runs on the nodes, so they count only if this machine trains it."""


def check(settings: RaySettings | None, name: str) -> Iterator[Finding]:
    """Yield the findings on Ray, the cluster, the plugin on the actors, and what that plugin finds on this machine."""
    settings = settings or RaySettings()
    yield Finding("Ray", True, f"ray {importlib.metadata.version('ray')}")
    yield from _cluster(settings)
    model = worker_model(Model("ray", name), settings)
    if problems := list(_worker_problems(model)):
        yield from problems
        return
    plugins = registry(model.plugin)
    yield Finding("worker", True, plugins.label(model.plugin))
    yield from helpers.check(plugins, model) or ()


def check_run(settings: RaySettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Yield each problem of the cluster, and of the model for the plugin on the actors.

    The memory and the devices of this machine count only if the run trains the model here.
    """
    settings = settings or RaySettings()
    if needs.download:
        yield from (finding for finding in _cluster(settings) if not finding.ok)
    model = worker_model(Model("ray", name), settings)
    if problems := list(_worker_problems(model)):
        yield from problems
        return
    plugins = registry(model.plugin)
    label = plugins.label(model.plugin)
    if missing := sorted(needs.hooks - set(plugins.hooks(model.plugin))):
        yield _problem(f"{label} does not implement {', '.join(missing)}; name another plugin")
        return
    if needs.expected_scores and "expected" not in plugins.info(model.plugin).scores:
        yield _problem(f"{label} cannot compute expected scores; set judging.score to parsed")
    for finding in helpers.check_run(plugins, model, needs) or ():
        if needs.trainings or finding.what not in _OF_ONE_MACHINE:
            yield finding


def check_objective(settings: RaySettings | None, objective: Objective) -> Iterator[str]:
    """Yield each problem of an objective for the plugin that trains, which is the one that runs the model.

    Raises ``InputError`` if this plugin does not train the objective.
    """
    model = worker_model(Model("ray"), settings or RaySettings())
    plugins = registry(model.plugin)
    if problem := untrained(objective, model.plugin, plugins):
        raise InputError(problem)
    names = objective.plugin_losses if isinstance(objective, Dpo) else ()
    if names and not plugins.info(model.plugin).trains_pair_losses:
        yield f"loss_type: {', '.join(names)}; {plugins.label(model.plugin)} does not train with losses of plugins"
    yield from helpers.check_objective(plugins, model, objective)


def _cluster(settings: RaySettings) -> Iterator[Finding]:
    host, colon, port = settings.address.rpartition(":")
    if not settings.address:
        yield Finding("cluster", True, "one is started on this machine for the run")
    elif not colon or not port.isdigit():
        detail = f"settings.address: {settings.address!r} is searched for when the run first uses it"
        yield Finding("cluster", True, detail)
    else:
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            detail = f"settings.address: nothing answers at {settings.address} ({error}); start it with `ray start`"
            yield Finding("cluster", False, detail)
        else:
            yield Finding("cluster", True, f"answers at {settings.address}")


def _worker_problems(model: Model) -> Iterator[Finding]:
    """The plugin on the actors cannot be used, has other settings, or calls a service."""
    plugins, where = registry(model.plugin), "settings.worker.settings"
    try:
        helpers.settings_of(plugins, model, where)
        service = helpers.endpoint(plugins, model, where)
    except TutelageError as error:
        yield Finding("worker", False, str(error)) if isinstance(error, InputError) else _problem(str(error))
        return
    if service is not None:
        label = plugins.label(model.plugin)
        yield _problem(f"{label} calls a service, with the budget of this machine; bind it without the plugin ray")


def _problem(detail: str) -> Finding:
    return Finding("worker", False, f"settings.worker.plugin: {detail}")
