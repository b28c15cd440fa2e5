"""One typed, guarded function per helper hook: it calls the plugin of a model and checks the result.

Raises ``PluginError`` if the plugin cannot be used, raises an exception or returns something else than the hook
promises. The message names the hook, the plugin, its distribution, the model and its address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tutelage.context import Tracking
from tutelage.errors import InputError, PluginError, TutelageError
from tutelage.files.disk_errors import error_text, is_disk_problem
from tutelage.objectives import Objective
from tutelage.plugin_info import Conversion, Finding, RunNeeds, TokenCounts
from tutelage.plugins.guarded_lists import guarded_list
from tutelage.plugins.registry import Registry
from tutelage.records import Model
from tutelage.services.requests import Endpoint

T = TypeVar("T")
_MOST_PROMPTS = 50
"""Number of prompts that a plugin is shown."""


def implements(registry: Registry, plugin: str, hook: str) -> bool:
    """Return whether a plugin implements a hook. Raises ``PluginError`` if the plugin cannot be used."""
    return hook in registry.hooks(plugin)


def endpoint(registry: Registry, model: Model, where: str = "") -> Endpoint | None:
    """Return the service that runs a model; None if it runs on this machine.

    ``where`` begins each line of the error of wrong settings.
    """
    if not implements(registry, model.plugin, "endpoint"):
        return None
    label = _label(registry, model, "endpoint")
    settings = settings_of(registry, model, where)
    with _guard(label):
        found = _call(registry, model, "endpoint", settings=settings, name=model.name)
    return None if found is None else _checked(found, Endpoint, label)


def check(registry: Registry, model: Model, where: str = "") -> list[Finding] | None:
    """Return the findings of a plugin about a model; None if it does not check."""
    return _findings(registry, model, "check", settings=settings_of(registry, model, where), name=model.name)


def check_run(registry: Registry, model: Model, needs: RunNeeds, where: str = "") -> list[Finding] | None:
    """Return the problems of a model on this machine for a run; None if the plugin does not check."""
    settings = settings_of(registry, model, where)
    return _findings(registry, model, "check_run", settings=settings, name=model.name, needs=needs)


def check_prompts(registry: Registry, model: Model, prompts: Iterable[str]) -> str:
    """Return why the plugin of a model cannot work on these prompts, and the remedy; empty if it can."""
    some = list(islice(prompts, _MOST_PROMPTS))
    if not some or not implements(registry, model.plugin, "check_prompts"):
        return ""
    label = hook_label(registry, Model(model.plugin, wrappers=model.wrappers), "check_prompts")
    with _guard(label):
        found = _call(registry, model, "check_prompts", prompts=some)
    return _checked(found or "", str, label)


def check_objective(registry: Registry, model: Model, objective: Objective, where: str = "") -> list[str]:
    """Return each problem of an objective for a student, as ``KEY: problem and remedy``."""
    if not implements(registry, model.plugin, "check_objective"):
        return []
    settings = settings_of(registry, model, where)
    return _listed(registry, model, "check_objective", str, settings=settings, objective=objective) or []


def check_report_to(registry: Registry, student: Model, names: Sequence[str]) -> list[str]:
    """Return a problem and its remedy for each experiment tracker that a student cannot report to."""
    return _listed(registry, student, "check_report_to", str, names=names) or []


def report(registry: Registry, student: Model, tracking: Tracking, metrics: Mapping[str, float], step: int) -> None:
    """Add metrics of a finished step to the trackers, if the plugin of the student reports to them."""
    if implements(registry, student.plugin, "report"):
        with _guard(hook_label(registry, student, "report")):
            _call(registry, student, "report", tracking=tracking, metrics=metrics, step=step)


def count_tokens(
    registry: Registry, model: Model, rows: Sequence[Mapping[str, Any]], download: bool, where: str = ""
) -> TokenCounts | None:
    """Return the length of each row in tokens; None if it cannot be computed without a download."""
    label = hook_label(registry, model, "count_tokens")
    arguments = {"settings": settings_of(registry, model, where), "name": model.name, "download": download}
    with _guard(label):
        found = _call(registry, model, "count_tokens", rows=rows, **arguments)
    if found is None:
        return None
    counts = _checked(found, TokenCounts, label)
    if len(counts.tokens) != len(rows):
        raise PluginError(
            f"{label} counted {len(counts.tokens)} of {len(rows)} rows; it must return one number per row"
        )
    return counts


def convert(registry: Registry, plugin: str, checkpoint: Path, output: Path, conversion: Conversion) -> None:
    """Let a plugin convert a checkpoint. An error of the disk is raised unchanged."""
    with _guard(hook_label(registry, Model(plugin), "convert"), of_disk=True):
        _call(registry, Model(plugin), "convert", checkpoint=checkpoint, output=output, conversion=conversion)


def devices(registry: Registry, model: Model, where: str = "") -> int:
    """Return the number of devices that share the work of a model."""
    return _number(registry, model, "devices", where)


def requests_at_once(registry: Registry, model: Model, where: str = "") -> int:
    """Return the number of requests that a model answers together in about the time of one."""
    return _number(registry, model, "requests_at_once", where)


def _number(registry: Registry, model: Model, hook: str, where: str) -> int:
    """Return the number, at least 1, that a hook returns; 1 without the hook."""
    if not implements(registry, model.plugin, hook):
        return 1
    label = hook_label(registry, model, hook)
    settings = settings_of(registry, model, where)
    with _guard(label):
        found = _call(registry, model, hook, settings=settings)
    number = _checked(1 if found is None else found, int, label)
    if number < 1:
        raise PluginError(f"{label} returned {number}; it must be at least 1")
    return number


def settings_of(registry: Registry, model: Model, where: str = "") -> Any:
    """Return the settings of a model's plugin. ``where`` begins each line of the error of wrong settings."""
    place = where or f"settings of {model.id or 'the model'} for {registry.label(model.plugin)}"
    return registry.settings(model.plugin, model.settings, place)


def wrapper_settings(registry: Registry, model: Model, wrapper: str) -> Any:
    """Return the settings of a plugin that wraps the hooks of a model: its defaults for a model without a recipe."""
    try:
        return registry.settings(wrapper, (model.wrappers or {}).get(wrapper, {}), f"wrappers.{wrapper}.settings")
    except InputError as error:
        if model.wrappers is not None:
            raise
        raise InputError(
            f"{error}; only a recipe gives them; leave the plugin out with --no-plugin {wrapper}"
        ) from error


def hook_label(registry: Registry, model: Model, hook: str) -> str:
    """Return a hook call for messages: the hook, its plugin, the plugins that wrap it, the model and its address."""
    name, address = model.id or model.name, ""
    try:
        service = endpoint(registry, model)
    except TutelageError:  # reported by its own call
        service = None
    if service is not None:
        name, address = service.model, f" at {service.base_url}"
    return _label(registry, model, hook, f"model {name!r}{address}" if name else "")


def _label(registry: Registry, model: Model, hook: str, of_model: str = "") -> str:
    wrappers = ", ".join(repr(name) for name in registry.wrappers(hook, model))
    more = [part for part in (f"wrapped by {wrappers}" if wrappers else "", of_model) if part]
    return ", ".join([f"hook {hook!r} of {registry.label(model.plugin)}", *more]) + ("," if more else "")


def _findings(registry: Registry, model: Model, hook: str, **arguments: Any) -> list[Finding] | None:
    return _listed(registry, model, hook, Finding, **arguments) if implements(registry, model.plugin, hook) else None


def _listed(registry: Registry, model: Model, hook: str, kind: type[T], **arguments: Any) -> list[T] | None:
    """The results of a hook that returns or yields several; None if it returned None."""
    label = hook_label(registry, model, hook)
    with _guard(label):
        found = _call(registry, model, hook, **arguments)
    return None if found is None else guarded_list(label, lambda: found, kind=kind)


def _call(registry: Registry, model: Model, hook: str, **arguments: Any) -> Any:
    return registry.caller(model.plugin, hook, model)(**arguments)


def _checked(result: object, kind: type[T], label: str) -> T:
    if not isinstance(result, kind) or isinstance(result, bool):
        raise PluginError(f"{label} gave {result!r}, which is not of the class {kind.__name__}")
    return result


@contextmanager
def _guard(label: str, of_disk: bool = False) -> Iterator[None]:
    """Turn an exception of a plugin into a ``PluginError``; ``of_disk``: except if the disk takes no more data."""
    try:
        yield
    except TutelageError:
        raise
    except (Exception, SystemExit) as error:
        if of_disk and is_disk_problem(error):
            raise
        raise PluginError(f"{label} failed: {error_text(error)}") from error
