"""What a plugin must be before it is registered: its hooks exist and can be called, its description holds together."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import attrs
import pluggy
from attrs import frozen

from tutelage import hookspecs
from tutelage.errors import PluginError, nearest
from tutelage.plugin_info import EnvironmentVariable, NamedModel, NamedSet, PluginInfo
from tutelage.records import Rubric

HOOKS = ("describe", *hookspecs.STAGES, "release")
"""Every hook, in the order in which they are shown."""

_RESERVED = "/:,"
"""PLUGIN/NAME, PLUGIN:MODEL and lists of names are written with these."""


@frozen
class InspectedPlugin:
    """What a sound plugin turned out to be."""

    info: PluginInfo
    hooks: tuple[str, ...]
    """Those that it implements."""
    wraps: tuple[str, ...]
    """Those that it only wraps around other plugins' implementations."""


def inspect_plugin(plugin: object, name: str) -> InspectedPlugin:
    """Check a plugin (a module or any hashable object with hooks) and ask it to describe itself.

    Raises ``PluginError`` with every problem of its hooks, or the first of its description.
    """
    problems = list(_name_problems(plugin, name)) or list(hook_problems(plugin))
    if problems:
        raise PluginError("; ".join(problems))
    manager = new_manager()
    manager.register(plugin, name)
    implementations = list(_implementations(manager, plugin))
    hooks = {hook for hook, made in implementations if not _wraps(made)}
    wraps = {hook for hook, made in implementations if _wraps(made)} - hooks
    return InspectedPlugin(
        info=_described(manager, plugin),
        hooks=tuple(hook for hook in HOOKS if hook in hooks),
        wraps=tuple(hook for hook in HOOKS if hook in wraps),
    )


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows tutelage's hooks and no plugin."""
    manager = pluggy.PluginManager("tutelage")
    manager.add_hookspecs(hookspecs)
    return manager


def hook_problems(plugin: object) -> Iterator[str]:
    """What is wrong with a plugin's hook implementations, each problem naming the hook.

    pluggy itself finds a misspelled hook and an unknown argument, but only the first, and not whose it is; and it lets
    arguments pass that it would never fill (a default, keyword-only, ``*args``).
    """
    bare = pluggy.PluginManager("tutelage")
    bare.register(plugin, "inspected")
    implementations = list(_implementations(bare, plugin))
    if not implementations:
        yield "it implements no hook: mark its functions with @tutelage.hookimpl"
    for hook, made in implementations:
        if hook in HOOKS:
            yield from _argument_problems(hook, made)
        elif not made.optionalhook:
            yield f"there is no hook {hook!r}{nearest(hook, HOOKS)}"


def _name_problems(plugin: object, name: str) -> Iterator[str]:
    if not _can_be_a_name(name):
        yield f"{name!r} cannot be a plugin's name: it is empty or has a space or one of {_RESERVED!r}"
    if type(plugin).__hash__ is None:
        yield f"an object of type {type(plugin).__name__} is not hashable, as a plugin must be (attrs: eq=False)"


def _can_be_a_name(name: str) -> bool:
    return bool(name) and not any(letter in _RESERVED or letter.isspace() for letter in name)


def _implementations(manager: pluggy.PluginManager, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
    for caller in manager.get_hookcallers(plugin) or ():
        for made in caller.get_hookimpls():
            yield caller.name, made


def _wraps(made: pluggy.HookImpl) -> bool:
    return bool(made.wrapper or made.hookwrapper)


def _argument_problems(hook: str, made: pluggy.HookImpl) -> Iterator[str]:
    known = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    for argument in inspect.signature(made.function).parameters.values():
        if argument.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            yield f"{hook}: argument {argument} is never passed: name each argument that is needed"
        elif argument.name not in known:
            yield f"{hook}: there is no argument {argument.name!r}{nearest(argument.name, known)}"
        elif argument.default is not inspect.Parameter.empty:
            yield f"{hook}: argument {argument.name!r} has a default and may never be passed: remove the default"
    if _wraps(made) and not inspect.isgeneratorfunction(made.function):
        yield f"{hook}: a wrapper must yield exactly once"


def _described(manager: pluggy.PluginManager, plugin: object) -> PluginInfo:
    try:
        answers = manager.hook.describe()
    except Exception as error:
        raise PluginError(f"describe() raised {type(error).__name__}: {error}") from error
    if not answers:
        return PluginInfo(help=(inspect.getdoc(plugin) or "").partition("\n")[0])
    if not isinstance(answers[0], PluginInfo):
        raise PluginError(f"describe() must return a PluginInfo, not {type(answers[0]).__name__}")
    for problem in _info_problems(answers[0]):
        raise PluginError(f"describe(): {problem}")
    return answers[0]


def _info_problems(info: PluginInfo) -> Iterator[str]:
    if info.settings is not None:
        yield from _settings_problems(info.settings)
    if not isinstance(info.aliases, tuple):
        yield f"aliases must be a tuple of names, not {type(info.aliases).__name__}"
    for alias in info.aliases:
        if not isinstance(alias, str) or not _can_be_a_name(alias):
            yield f"aliases: {alias!r} cannot be a plugin's name: it is empty or has a space or one of {_RESERVED!r}"
    for variable in info.environment:
        if not isinstance(variable, EnvironmentVariable):
            yield f"environment must hold EnvironmentVariable, not {type(variable).__name__}"
    sets = dict.fromkeys(("prompt_sets", "example_sets", "rated_sets", "preference_sets"), NamedSet)
    for offered, kind in {"models": NamedModel, **sets, "rubrics": Rubric}.items():
        for name, value in getattr(info, offered).items():
            if not isinstance(value, kind):
                yield f"{offered}[{name!r}] must be a {kind.__name__}, not {type(value).__name__}"
    for name, rule in info.pair_rules.items():
        if not callable(rule):
            yield f"pair_rules[{name!r}] must be callable"
    for name in ("endpoint", "check", "count_tokens", "convert"):
        if (function := getattr(info, name)) is not None and not callable(function):
            yield f"{name} must be callable, not {function!r}"


def _settings_problems(settings: Any) -> Iterator[str]:
    if not isinstance(settings, type) or not attrs.has(settings):
        yield f"settings must be an attrs class, not {settings!r}"
        return
    try:
        attrs.resolve_types(settings)
    except Exception as error:
        yield f"the annotations of {settings.__name__} cannot be read: {error}"
