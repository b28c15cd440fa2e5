"""The checks of a plugin before it is registered: its hooks exist and can be called, and its description is valid."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from types import ModuleType
from typing import Any, get_args

import attrs
import pluggy
from attrs import evolve, frozen

from tutelage import helper_specs, hookspecs
from tutelage.errors import PluginError, nearest
from tutelage.files.disk_errors import error_text
from tutelage.files.path_names import is_path_name
from tutelage.measure import Measure
from tutelage.objectives import OBJECTIVES, ExampleKind, Objective, PairLoss
from tutelage.pipeline import Pipeline
from tutelage.plugin_info import EnvironmentVariable, NamedModel, NamedSet, PluginInfo
from tutelage.plugins.functions import NEVER_AWAITED, is_async
from tutelage.plugins.measure_functions import declaration_problems
from tutelage.plugins.pipeline_checks import pipeline_problems
from tutelage.recipe.bindings import WRAPPED_ROLES
from tutelage.records import Rubric, Scores

HOOKS = ("describe", *hookspecs.STAGES, "release", *helper_specs.HELPERS)
"""Every hook, in the order in which the hooks are shown."""

_RESERVED = "/:,"
"""Characters with a meaning in PLUGIN/NAME, PLUGIN:MODEL and lists of names."""


@frozen
class InspectedPlugin:
    """The description and the hooks of a valid plugin."""

    info: PluginInfo
    hooks: tuple[str, ...]
    """The hooks that the plugin implements."""
    wraps: tuple[str, ...]
    """The hooks that the plugin only wraps around the implementations of other plugins."""
    unmarked: tuple[str, ...] = ()
    """Its functions with the name and arguments of a hook that lack the mark ``hookimpl``. They are not called."""


def inspect_plugin(plugin: object, name: str) -> InspectedPlugin:
    """Check a plugin (a module or any hashable object with hooks) and call its ``describe``.

    Raises ``PluginError`` with every problem of the hooks, or the first problem of the description.
    """
    problems = list(_name_problems(plugin, name)) or list(hook_problems(plugin))
    if problems:
        raise PluginError("; ".join(problems))
    manager = new_manager()
    manager.register(plugin, name)
    implementations = list(_implementations(manager, plugin))
    hooks = {hook for hook, implementation in implementations if not _wraps(implementation)}
    wraps = {hook for hook, implementation in implementations if _wraps(implementation)} - hooks
    info = _described(manager, plugin, hooks)
    return InspectedPlugin(
        info=evolve(info, item_by_item=info.item_by_item or "endpoint" in hooks),
        hooks=tuple(hook for hook in HOOKS if hook in hooks),
        wraps=tuple(hook for hook in HOOKS if hook in wraps),
        unmarked=unmarked_hooks(plugin),
    )


def unmarked_hooks(plugin: object) -> tuple[str, ...]:
    """Return the plugin's own functions with the name and arguments of a hook that are not marked with ``hookimpl``."""
    return tuple(hook for hook in HOOKS if _is_unmarked(plugin, hook))


def _is_unmarked(plugin: object, hook: str) -> bool:
    owner = plugin if isinstance(plugin, ModuleType | type) else type(plugin)
    function = inspect.getattr_static(owner, hook, None)
    function = getattr(function, "__func__", function)  # of a static or class method
    if not inspect.isfunction(function) or hasattr(function, "tutelage_impl"):
        return False
    if isinstance(plugin, ModuleType) and function.__module__ != plugin.__name__:
        return False  # imported, such as the stage ``tutelage.judge``
    return set(inspect.signature(function).parameters) - {"self", "cls"} <= _arguments_of(hook)


def _arguments_of(hook: str) -> set[str]:
    return set(inspect.signature(specification(hook)).parameters)


def has_marked_hooks(plugin: object) -> bool:
    """Return whether an object has a function that is marked with ``hookimpl``."""
    bare = pluggy.PluginManager("tutelage")
    bare.register(plugin, "inspected")
    return any(_implementations(bare, plugin))


def new_manager() -> pluggy.PluginManager:
    """Return a pluggy manager with tutelage's hook specifications and no plugin."""
    manager = pluggy.PluginManager("tutelage")
    manager.add_hookspecs(hookspecs)
    manager.add_hookspecs(helper_specs)
    return manager


def specification(hook: str) -> Callable[..., Any]:
    """Return the function that specifies a hook: its signature and its documentation."""
    found: Callable[..., Any] = getattr(helper_specs if hook in helper_specs.HELPERS else hookspecs, hook)
    return found


def hook_problems(plugin: object) -> Iterator[str]:
    """Yield every problem of a plugin's hook implementations, with the name of the hook.

    pluggy finds a misspelled hook and an unknown argument, too, but reports only the first one and does not name the
    plugin. It also accepts arguments that it never passes (with a default, keyword-only, ``*args``).
    """
    bare = pluggy.PluginManager("tutelage")
    bare.register(plugin, "inspected")
    implementations = list(_implementations(bare, plugin))
    if not implementations:
        names = ", ".join(unmarked_hooks(plugin)) or "its functions"
        yield f"it implements no hook: mark {names} with @tutelage.hookimpl"
    functions = [one.function for _, one in implementations]
    if isinstance(plugin, type) and any("self" in inspect.signature(function).parameters for function in functions):
        yield f"{plugin.__name__} is a class; register an object of it: {plugin.__name__}()"
        return
    for hook, implementation in implementations:
        if hook in HOOKS:
            yield from _argument_problems(hook, implementation)
            yield from _result_problems(hook, implementation)
        elif not implementation.optionalhook:
            yield f"there is no hook {hook!r}{nearest(hook, HOOKS)}"


def _name_problems(plugin: object, name: str) -> Iterator[str]:
    if not _can_be_a_name(name):
        yield f"{name!r} cannot be a plugin's name: it is empty or has a space or one of {_RESERVED!r}"
    if inspect.isroutine(plugin):
        yield f"it is the function {plugin.__name__}, and not a plugin: name its module {plugin.__module__!r}"
    try:
        hash(plugin)
    except TypeError as error:
        yield (
            f"the {type(plugin).__name__} object is not hashable, as a plugin must be ({error}): compare its objects "
            "by identity with eq=False, as in @attrs.define(eq=False) or @dataclass(eq=False), or make it a module"
        )


def _can_be_a_name(name: str) -> bool:
    return bool(name) and not any(letter in _RESERVED or letter.isspace() for letter in name)


def _implementations(manager: pluggy.PluginManager, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            yield caller.name, implementation


def _wraps(implementation: pluggy.HookImpl) -> bool:
    return bool(implementation.wrapper or implementation.hookwrapper)


def _argument_problems(hook: str, implementation: pluggy.HookImpl) -> Iterator[str]:
    if is_async(implementation.function):
        yield f"{hook}: {NEVER_AWAITED}"
        return
    known = list(inspect.signature(specification(hook)).parameters)
    for argument in inspect.signature(implementation.function).parameters.values():
        if argument.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            yield f"{hook}: argument {argument} is never passed: name each argument that is needed"
        elif argument.name not in known:
            yield f"{hook}: there is no argument {argument.name!r}{nearest(argument.name, known)}"
        elif argument.default is not inspect.Parameter.empty:
            yield f"{hook}: argument {argument.name!r} has a default and may never be passed: remove the default"
    if _wraps(implementation) and not inspect.isgeneratorfunction(implementation.function):
        yield f"{hook}: a wrapper must yield exactly once"


def _result_problems(hook: str, implementation: pluggy.HookImpl) -> Iterator[str]:
    """A generator function in place of a hook that returns one result: nothing would run its body."""
    yields = str(inspect.signature(specification(hook)).return_annotation).startswith(("Iterator", "Iterable"))
    if not yields and not _wraps(implementation) and inspect.isgeneratorfunction(implementation.function):
        yield f"{hook}: it yields, but the hook returns one result: use return"


def _described(manager: pluggy.PluginManager, plugin: object, hooks: Collection[str]) -> PluginInfo:
    try:
        answers = manager.hook.describe()
    except Exception as error:
        raise PluginError(f"describe() raised {error_text(error)}") from error
    if not answers and "describe" in hooks:
        raise PluginError("describe() returned None; it must return a PluginInfo")
    if not answers:
        return PluginInfo(help=(inspect.getdoc(plugin) or "").partition("\n")[0])
    if not isinstance(answers[0], PluginInfo):
        raise PluginError(f"describe() must return a PluginInfo, not {type(answers[0]).__name__}")
    for problem in chain(_type_problems(answers[0]), _info_problems(answers[0])):
        raise PluginError(f"describe(): {problem}")
    return answers[0]


def _type_problems(info: PluginInfo) -> Iterator[str]:
    for field in attrs.fields(PluginInfo):
        value, name = getattr(info, field.name), str(field.type).partition("[")[0]
        kind = _KINDS.get(name)
        if kind is not None and not isinstance(value, kind):
            yield f"{field.name} must be {'an' if kind is int else 'a'} {name.lower()}, not {value!r}"


_KINDS = {"Mapping": Mapping, "tuple": tuple, "bool": bool, "int": int, "str": str}


def _info_problems(info: PluginInfo) -> Iterator[str]:
    if info.settings is not None:
        yield from _settings_problems(info.settings)
    settings = [one.name for one in attrs.fields(info.settings)] if info.settings is not None else []
    choices = {"neutral_settings": settings, "sampling": ("top_k", "min_p"), "scores": get_args(Scores)}
    for key, known in choices.items():
        for name in getattr(info, key):
            if name not in known:
                yield f"{key}: there is no {name!r}{nearest(str(name), known)}"
    for alias in info.aliases:
        if not isinstance(alias, str) or not _can_be_a_name(alias):
            yield f"aliases: {alias!r} cannot be a plugin's name: it is empty or has a space or one of {_RESERVED!r}"
    for role in info.wrapped_roles:
        if role not in WRAPPED_ROLES:
            yield f"wrapped_roles: no role {role!r}{nearest(str(role), WRAPPED_ROLES)}"
    for variable in info.environment:
        if not isinstance(variable, EnvironmentVariable):
            yield f"environment must hold EnvironmentVariable, not {type(variable).__name__}"
    sets = dict.fromkeys(("prompt_sets", "example_sets", "rated_sets", "preference_sets"), NamedSet)
    others = {"models": NamedModel, "rubrics": Rubric, "pair_losses": PairLoss, "measures": Measure}
    for offered, kind in {**sets, **others}.items():
        for name, value in getattr(info, offered).items():
            if not isinstance(value, kind):
                yield f"{offered}[{name!r}] must be a {kind.__name__}, not {type(value).__name__}"
            elif isinstance(value, NamedSet) and not callable(value.load):
                yield f"{offered}[{name!r}].load must be a function of (count, seed), not {type(value.load).__name__}"
    for group in ("pipelines", "controls"):
        for name, pipeline in getattr(info, group).items():
            if not isinstance(pipeline, Pipeline):
                yield f"{group}[{name!r}] must be a Pipeline, not {type(pipeline).__name__}"
            else:
                problems = pipeline_problems(pipeline, is_control=group == "controls")
                yield from (f"{group}[{name!r}]: {problem}" for problem in problems)
            if not is_path_name(name):
                yield f"{group}[{name!r}]: a name has small letters, digits and hyphens only"
    for name, objective in info.objectives.items():
        yield from (f"objectives[{name!r}]: {problem}" for problem in _objective_problems(objective))
        if not is_path_name(name):
            yield f"objectives[{name!r}]: a name has small letters, digits and hyphens only"
    for name, rule in info.pair_rules.items():
        if not callable(rule):
            yield f"pair_rules[{name!r}] must be callable"
    for where, function in _offered_functions(info):
        if is_async(function):
            yield f"{where}: {NEVER_AWAITED}"
    for name, loss in info.pair_losses.items():
        if isinstance(loss, PairLoss):
            yield from (f"pair_losses[{name!r}]: {problem}" for problem in _loss_problems(loss))
    for name, measure in info.measures.items():
        if isinstance(measure, Measure):
            yield from (f"measures[{name!r}]: {problem}" for problem in declaration_problems(measure))
            if measure.settings is not None:
                yield from (f"measures[{name!r}]: {problem}" for problem in _settings_problems(measure.settings))


def _objective_problems(objective: Any) -> Iterator[str]:
    if not (isinstance(objective, type) and issubclass(objective, Objective) and attrs.has(objective)):
        yield f"must be an attrs class that is derived from tutelage.Objective, not {objective!r}"
        return
    if "__attrs_attrs__" not in vars(objective):
        yield f"{objective.__name__} is not an attrs class: decorate it with @attrs.frozen"
    if getattr(objective, "examples", None) not in get_args(ExampleKind):
        yield f"{objective.__name__}.examples must be one of {', '.join(get_args(ExampleKind))}"
    base = next((cls for cls in OBJECTIVES.values() if issubclass(objective, cls)), None)
    if base is not None and getattr(objective, "loss", None) is not base.loss:
        yield (
            f"{objective.__name__} is derived from {base.__name__}, whose losses students would train in place of its "
            "own loss(): derive it from tutelage.Objective"
        )
    if required := [one.name for one in attrs.fields(objective) if one.init and one.default is attrs.NOTHING]:
        yield f"{objective.__name__}: every setting needs a default; {', '.join(required)} has none"
    yield from _settings_problems(objective)


def _offered_functions(info: PluginInfo) -> Iterator[tuple[str, object]]:
    """Yield the functions of a description that core calls, each with its place."""
    yield from ((f"pair_rules[{name!r}]", rule) for name, rule in info.pair_rules.items())
    yield from ((f"pair_losses[{name!r}]", loss.function) for name, loss in info.pair_losses.items())
    yield from ((f"measures[{name!r}]", getattr(one, "function", None)) for name, one in info.measures.items())
    yield from ((f"objectives[{name!r}].loss", getattr(one, "loss", None)) for name, one in info.objectives.items())
    for offered in ("prompt_sets", "example_sets", "rated_sets", "preference_sets"):
        yield from ((f"{offered}[{name!r}]", one.load) for name, one in getattr(info, offered).items())


def _loss_problems(loss: PairLoss) -> Iterator[str]:
    if not callable(loss.function):
        yield f"function must be callable, not {loss.function!r}"
    if loss.settings is not None:
        yield from _settings_problems(loss.settings)


def _settings_problems(settings: Any) -> Iterator[str]:
    if not isinstance(settings, type) or not attrs.has(settings):
        yield f"settings must be an attrs class, not {settings!r}: decorate a class with attrs.frozen"
        return
    try:
        attrs.resolve_types(settings)
    except Exception as error:
        yield f"the annotations of {settings.__name__} cannot be read: {error}"
