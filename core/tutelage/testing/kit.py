"""``check_plugin``: checks the contract of every hook that a plugin implements."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import ENTRY_POINT_GROUP
from tutelage.plugins.registry import Registry
from tutelage.records import Model
from tutelage.testing.promises import OF_WRAPPERS, PROMISES, Promise
from tutelage.testing.reference import Reference
from tutelage.testing.report import Check, Report
from tutelage.testing.subject import PROMPTS, Subject

_REFERENCE = "reference-of-the-kit"


def check_plugin(
    plugin: object,
    *,
    model: Model | None = None,
    context: Context | None = None,
    prompts: Sequence[str] = PROMPTS,
    skip: Collection[str] = (),
) -> Report:
    """Check a plugin against the contract of every hook that it implements or wraps, with a few small inputs.

    ``plugin`` is the name or alias of an installed plugin, a module, or an object with hooks. ``model`` is the model to
    run, with its settings; its ``plugin`` is set to the checked plugin. ``context`` is passed to the stages; a plugin
    for a service may need one with its own caller. ``prompts`` are texts that the plugin can answer. ``skip`` has the
    names of hooks that are not checked.

    Returns a ``Report``; call its ``raise_for_problems()``, or print it. A plugin that cannot be loaded is reported in
    the same way. Raises ``InputError`` if ``prompts`` is one text, or has none.
    """
    if isinstance(prompts, str) or not prompts:
        raise InputError(f"check_plugin: prompts is {prompts!r}; it must be a list of at least one text")
    name = plugin if isinstance(plugin, str) else _name_of(plugin)
    try:
        registry = _registry_with(plugin, name)
        name, label = registry.name_of(name), registry.label(name)
    except PluginError as error:
        return Report(f"plugin {name!r}", (Check("loading", "loads, with hooks that can be called", str(error)),))
    with tempfile.TemporaryDirectory(prefix="check-plugin-") as folder:
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        subject = Subject(
            registry=registry,
            name=name,
            model=evolve(model or Model(name), plugin=name),
            context=context or Context(scratch=scratch),
            folder=Path(folder),
            prompt_texts=tuple(prompts),
            module=_entry_module(name if isinstance(plugin, str) else plugin),
        )
        return Report(label, tuple(_checks(subject, skip)))


def _name_of(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__)).replace(".", "-")


def _registry_with(plugin: object, name: str) -> Registry:
    if isinstance(plugin, str):
        return Registry.discover()
    registry = Registry.empty()
    registry.register(plugin, name)
    return registry


def _entry_module(plugin: object) -> str | None:
    """The module that is imported at start-up; None for an object, and for a module that cannot be imported by name."""
    if isinstance(plugin, str):
        entries = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=plugin)
        return next((entry.module for entry in entries), None)
    return plugin.__name__ if isinstance(plugin, ModuleType) and plugin.__spec__ is not None else None


def _checks(subject: Subject, skip: Collection[str]) -> Iterator[Check]:
    reported: set[_Fault] = set()
    for label, checked, promise, hook in _promises(subject, skip):
        fault = _fault(checked, promise, hook, label)
        yield Check(label, promise.__doc__ or "", None if fault is None else fault.problem, fault in reported)
        if fault is not None:
            reported.add(fault)


def _promises(subject: Subject, skip: Collection[str]) -> Iterator[tuple[str, Subject, Promise, str]]:
    """Yield the label in the report, the subject, the requirement and the hook of each check."""
    for hook in subject.registry.hooks(subject.name):
        for promise in PROMISES[hook] if hook not in skip else ():
            yield hook, subject, promise, hook
    for hook in subject.registry.wrapped_by(subject.name):
        for promise in OF_WRAPPERS.get(hook, ()) if hook not in skip else ():
            yield f"{hook} (wrapper)", _wrapping(subject), promise, hook


def _wrapping(subject: Subject) -> Subject:
    """Return the subject of the checks of a wrapper: a plugin that fulfils the contract, wrapped by the plugin."""
    if _REFERENCE not in subject.registry.names():
        subject.registry.register(Reference(), _REFERENCE)
    folder = Path(tempfile.mkdtemp(dir=subject.folder))
    model = Model(_REFERENCE, wrappers={subject.name: subject.model.settings})
    return evolve(subject, name=_REFERENCE, model=model, folder=folder, module=None)


@frozen
class _Fault:
    """The problem at which a check stopped. Equal faults are reported once."""

    problem: str
    label: str | None
    """The hook of a broken requirement, as in ``Check.hook``.

    None for an error: its text names the hook, or it is of no single hook.
    """


def _fault(subject: Subject, promise: Promise, hook: str, label: str) -> _Fault | None:
    try:
        promise(subject, hook)
    except AssertionError as broken:
        return _Fault(str(broken), label)
    except Exception as error:
        return _Fault(f"{type(error).__name__}: {error}", None)
    return None
