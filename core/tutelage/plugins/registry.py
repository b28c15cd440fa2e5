"""The registry of plugins: discovery, status, and calls of one plugin's hook.

A broken plugin does not affect the others: each entry point is loaded separately, and the error of a plugin is raised
only if that plugin is required. A hook call reaches one plugin only, and the plugins that wrap the hook.
"""

from __future__ import annotations

import importlib.metadata
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from types import ModuleType, SimpleNamespace
from typing import Any

from attrs import evolve, frozen

from tutelage.errors import InputError, PluginError, nearest
from tutelage.files.settings import optional_settings
from tutelage.plugin_info import PluginInfo
from tutelage.plugins import built_in
from tutelage.plugins.discovery import (
    OWN_DISTRIBUTION,
    PluginStatus,
    installation_hint,
    installed,
    is_own,
    resolve_clash,
    status_of,
)
from tutelage.plugins.files import PluginFile, reload_problem, stored_files
from tutelage.plugins.functions import of_namespace
from tutelage.plugins.inspection import InspectedPlugin, inspect_plugin, new_manager
from tutelage.plugins.offers import Offers
from tutelage.records import Model

BLOCK_VARIABLE = "TUTELAGE_NO_PLUGINS"
"""Environment variable with the names of plugins not to load, separated by commas."""


@frozen
class _Registered:
    plugin: object
    status: PluginStatus
    inspected: InspectedPlugin


class _NameTakenError(PluginError):
    """Another plugin already has the name or alias."""


class Registry(Offers):
    """The plugins of one process. Make one with ``discover`` or ``empty``; add to it with ``register``."""

    def __init__(self) -> None:
        self._manager = new_manager()
        self._registered: dict[str, _Registered] = {}
        self._refused: list[PluginStatus] = []
        self._files: list[PluginFile] = []
        self._blocked_files: dict[str, str] = {}
        own = PluginStatus(built_in.NAME, OWN_DISTRIBUTION, importlib.metadata.version(OWN_DISTRIBUTION))
        self._register(built_in, own)

    @classmethod
    def empty(cls) -> Registry:
        """Return a registry with only core's own plugin, for tests and for library users who register plugins."""
        return cls()

    @classmethod
    def discover(
        cls, blocked: Iterable[str] = (), environment: Mapping[str, str] = os.environ, *, may_be_files: bool = False
    ) -> Registry:
        """Load every installed plugin (entry points of the group ``tutelage``) that is not blocked.

        ``blocked`` names plugins not to load, as does ``TUTELAGE_NO_PLUGINS=a,b`` in ``environment``. A plugin that is
        blocked by an alias is imported, because only the plugin knows its aliases, but cannot be used. A plugin that
        cannot be loaded is in ``statuses()`` with its error and does not affect the others. Raises ``InputError`` if a
        blocked name is not installed; with ``may_be_files``, ``check_blocked`` does, after the files were passed to
        ``block_file``.
        """
        registry = cls()
        found = installed()
        reasons = dict.fromkeys(_names(environment.get(BLOCK_VARIABLE, "")), f"blocked by {BLOCK_VARIABLE}")
        reasons |= dict.fromkeys(blocked, "blocked by --no-plugin")
        to_load = []
        for name, entry_points in found.items():
            if name in reasons:
                registry._refused += [status_of(entry, "blocked", reasons[name]) for entry in entry_points]
                continue
            chosen, refused = resolve_clash(entry_points)
            registry._refused += refused
            if chosen is not None:
                to_load.append(chosen)
        for entry_point in sorted(to_load, key=is_own, reverse=True):  # own plugins first: they keep their aliases
            registry._load(entry_point)
        for name, reason in reasons.items():
            if name not in found and not registry._block(name, reason):
                registry._blocked_files[name] = reason
        if not may_be_files:
            registry.check_blocked()
        return registry

    @classmethod
    def for_process(cls, plugin_files: Mapping[str, Mapping[str, str]]) -> Registry:
        """Load the installed plugins and plugin files in another process; ``Context.plugin_files`` has the files.

        Raises ``InputError`` if a file is missing or has changed, and ``PluginError`` if its import fails.
        """
        files = stored_files(plugin_files)
        for file in files:
            if problem := reload_problem(file):
                raise InputError(problem)
        # An installed plugin with the name of a file is blocked where the file was loaded, too.
        registry = cls.discover([file.name for file in files], may_be_files=True)
        registry.load_files(files)
        return registry

    def register(self, plugin: object, name: str) -> None:
        """Register a plugin manually: a module, any hashable object with hooks, or a namespace of plain functions.

        A namespace is a mapping or a ``SimpleNamespace``. Its functions that have the name of a hook are those of
        ``tutelage.plugin``: ``registry.register({"judge": lambda answer: len(answer)}, "length")``.

        Raises ``PluginError`` if the plugin is invalid, or the name or an alias is taken.
        """
        if isinstance(plugin, SimpleNamespace):
            plugin = vars(plugin)
        if isinstance(plugin, Mapping):
            plugin = of_namespace(plugin)
        self._register(plugin, PluginStatus(name))

    def load_files(self, files: Iterable[PluginFile]) -> None:
        """Import plugin files and register their plugins. Raises ``PluginError`` if that fails or a name is taken."""
        for file in files:
            status = PluginStatus(file.name, path=file.path)
            self._check_is_free(file.name, status)  # before the file's code runs
            try:
                self._register(file.load(), status)
            except PluginError as error:
                raise PluginError(f"--plugin {file.module or file.path}: {error}") from error
            self._files.append(file)

    def refuse_file(self, file: PluginFile, reason: str) -> None:
        """Record a plugin file that is not loaded. Its plugin cannot be used; an error about it has the reason."""
        self._refused.append(PluginStatus(file.name, status="failed", error=reason, path=file.path))

    def block_file(self, file: PluginFile) -> bool:
        """Record a plugin file as blocked, if its name is. Returns False if the file is to be loaded."""
        reason = self._blocked_files.pop(file.name, None)
        if reason is not None:
            self._refused.append(PluginStatus(file.name, status="blocked", error=reason, path=file.path))
        return reason is not None

    def check_blocked(self) -> None:
        """Raise ``InputError`` if a blocked name is neither that of an installed plugin nor that of a blocked file."""
        for name, reason in self._blocked_files.items():
            raise InputError(f"plugin {name!r}, {reason}, is not installed{nearest(name, installed())}")

    @property
    def files(self) -> tuple[PluginFile, ...]:
        """The plugin files that were loaded."""
        return tuple(self._files)

    def unregister(self, name: str) -> None:
        """Remove a plugin. Raises ``PluginError`` if it is not registered."""
        name = self._get(name).status.name
        self._manager.unregister(name=name)
        del self._registered[name]

    def statuses(self) -> list[PluginStatus]:
        """Return the status of every plugin, sorted by name. Core's own plugin, which always exists, is not listed."""
        loaded = [registered.status for registered in self._installed().values()]
        return sorted(loaded + self._refused, key=lambda status: (status.name, status.distribution or ""))

    def names(self, hook: str | None = None) -> list[str]:
        """Return the names of the plugins that can be used; with ``hook``, only of those that implement it."""
        return sorted(
            name for name, registered in self._installed().items() if hook is None or hook in registered.inspected.hooks
        )

    def name_of(self, name: str) -> str:
        """Return the name of the plugin with this name or alias. Any other text is returned unchanged.

        The name of a plugin takes precedence over the alias of another plugin.
        """
        if name in self._registered:
            return name
        is_refused = any(status.name == name for status in self._refused)
        for status in self.statuses():
            if name in status.aliases and not (is_refused and status.distribution != OWN_DISTRIBUTION):
                return status.name
        return name

    def info(self, name: str) -> PluginInfo:
        """Return a plugin's description. Raises ``PluginError`` if the plugin cannot be used."""
        return self._get(name).inspected.info

    def label(self, name: str) -> str:
        """Return a plugin's name and origin for messages. Raises ``PluginError`` if the plugin cannot be used."""
        return self._get(name).status.label

    def hooks(self, name: str) -> tuple[str, ...]:
        """Return the hooks that a plugin implements. Raises ``PluginError`` if the plugin cannot be used."""
        return self._get(name).inspected.hooks

    def wrappers(self, hook: str | None = None, model: Model | None = None) -> list[str]:
        """Return the names of the plugins that wrap a hook, or any hook; with ``model``, only those of its role."""
        return sorted(
            name
            for name, registered in self._registered.items()
            if (hook in registered.inspected.wraps if hook else registered.inspected.wraps)
            and (model is None or model.wrappers is None or name in model.wrappers)
        )

    def wrapped_by(self, name: str) -> tuple[str, ...]:
        """Return the hooks that a plugin wraps. Raises ``PluginError`` if the plugin cannot be used."""
        return self._get(name).inspected.wraps

    def unmarked(self, name: str) -> tuple[str, ...]:
        """Return the functions of a plugin that are hooks but for the mark ``hookimpl``; see ``unmarked_hooks``."""
        return self._get(name).inspected.unmarked

    def require(self, name: str, hook: str) -> None:
        """Check, before any work starts, that a plugin can be used for a hook.

        Raises ``PluginError`` with the reason: not installed, blocked, broken, or the hook is not implemented.
        """
        if hook not in self.hooks(name):
            if hook in self.unmarked(name):
                raise PluginError(
                    f"{self.label(name)} does not implement {hook!r}, because its function of this name is not marked: "
                    "put @tutelage.hookimpl above it"
                )
            others = ", ".join(self.names(hook)) or "none"
            raise PluginError(f"{self.label(name)} does not implement {hook!r}; installed plugins that do: {others}")

    def caller(self, name: str, hook: str, model: Model | None = None) -> Callable[..., Any]:
        """Return a function that calls one plugin's hook, with keyword arguments only.

        Other plugins that implement the hook are excluded; plugins that only wrap it are included, with ``model`` only
        those that wrap its hooks. Of several, the first by name is called first, so it gets the results of the others,
        in any order of registration. pluggy excludes a plugin as a whole, so a plugin that wraps a hook should not
        implement the same hook. Raises the errors of ``require``.
        """
        self.require(name, hook)
        included = {self.name_of(name), *self.wrappers(hook, model)}
        others = [
            registered.plugin
            for other, registered in self._registered.items()
            if other not in included and hook in (*registered.inspected.hooks, *registered.inspected.wraps)
        ]
        return self._manager.subset_hook_caller(hook, others)

    def module_of(self, name: str) -> str:
        """Return the name of the module in which a plugin is defined. Raises ``PluginError`` if it cannot be used."""
        plugin = self._get(name).plugin
        return str(plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__)

    def settings(self, name: str, values: Mapping[str, Any], where: str) -> Any:
        """Return a plugin's settings, made from plain values; None if the plugin has no settings class.

        ``where`` begins each line of an error. Raises ``InputError`` with every problem of the values, or if there are
        values for a plugin without settings. Raises ``PluginError`` if the plugin cannot be used.
        """
        return optional_settings(self.info(name).settings, values, where, "this plugin")

    def _plugins(self) -> Iterable[str]:
        return self._registered

    def _installed(self) -> dict[str, _Registered]:
        return {name: registered for name, registered in self._registered.items() if name != built_in.NAME}

    def _knows(self, name: str) -> bool:
        name = self.name_of(name)
        return name in self._registered or any(status.name == name for status in self._refused)

    def _get(self, name: str) -> _Registered:
        name = self.name_of(name)
        if name in self._registered:
            return self._registered[name]
        for status in self._refused:
            if status.name == name:
                raise PluginError(f"{status.label} cannot be used: {status.error}")
        hint = installation_hint(name) or nearest(name, self.names())
        raise PluginError(f"plugin {name!r} is not installed{hint}")

    def _register(self, plugin: object, status: PluginStatus) -> None:
        name = status.name
        self._check_is_free(name, status)
        inspected = inspect_plugin(plugin, name)
        for alias in inspected.info.aliases:
            self._check_is_free(alias, status)
        for registered in self._registered.values():
            if registered.plugin == plugin:
                raise PluginError(f"it is the same object as {registered.status.label}")
        self._manager.register(plugin, name)
        hooks = (*inspected.hooks, *(f"{hook} (wrapper)" for hook in inspected.wraps))
        described = evolve(status, hooks=hooks, aliases=inspected.info.aliases)
        self._registered[name] = _Registered(plugin, described, inspected)
        if inspected.wraps:
            self._order_wrappers()

    def _order_wrappers(self) -> None:
        """Let the wrappers of a hook be called in the order of their names, in any order of registration."""
        for name in sorted(self.wrappers(), reverse=True):  # pluggy calls the last registered one first
            self._manager.unregister(name=name)
            self._manager.register(self._registered[name].plugin, name)

    def _check_is_free(self, name: str, applicant: PluginStatus) -> None:
        """Raise ``PluginError`` if a plugin with this name or alias is registered already."""
        for registered in self._registered.values():
            status = registered.status
            if name == status.name == applicant.name:
                raise _NameTakenError(f"the name {name!r} is taken: {status.label} is registered already")
            if name in (status.name, *status.aliases):
                raise _NameTakenError(
                    f"{status.label} and {applicant.label} both have the name or alias {name!r}; "
                    f"only {status.name!r} is loaded: uninstall or rename the other"
                )

    def _load(self, entry_point: EntryPoint) -> None:
        status = status_of(entry_point, "ok")
        try:
            self._check_is_free(status.name, status)  # before the plugin's code runs
            self._register(entry_point.load(), status)
        except KeyboardInterrupt:
            raise
        except _NameTakenError as error:
            self._refused.append(evolve(status, status="clash", error=str(error)))
        except BaseException as error:  # a module may even call sys.exit() when it is imported
            reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            if isinstance(error, ModuleNotFoundError) and error.name == entry_point.module:
                reason += f"; its entry point is {entry_point.value!r}: correct it, or add the module to the package"
            trace = "".join(traceback.format_exception(error))
            self._refused.append(status_of(entry_point, "failed", reason, trace))

    def _block(self, alias: str, reason: str) -> bool:
        """Remove the plugin with this alias and record it as blocked. Returns False if no plugin has the alias."""
        name = self.name_of(alias)
        if name not in self._registered:
            return False
        status = self._registered[name].status
        self.unregister(name)
        self._refused.append(evolve(status, status="blocked", hooks=(), error=reason))
        return True


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
