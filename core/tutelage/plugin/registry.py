"""Which plugins there are, and one plugin's hook to call.

A broken package is reported and never in the way: each entry point loads in its own guard, and only who requires the
plugin gets its error. A hook is called through one bound plugin alone; plugins that wrap it stay around it.
"""

from __future__ import annotations

import importlib.metadata
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import Any, Literal, overload

from attrs import evolve, frozen

from tutelage.errors import InputError, PluginError, nearest
from tutelage.files.settings import structure
from tutelage.plugin import built_in
from tutelage.plugin.discovery import OWN_DISTRIBUTION, PluginStatus, installed, is_own, settle, status_of
from tutelage.plugin.inspection import InspectedPlugin, inspect_plugin, new_manager
from tutelage.plugin_info import NamedModel, NamedSet, PluginInfo
from tutelage.preferences.pairing import PairRule
from tutelage.records import Example, Prompt, RatedExample, Rubric

BLOCK_VARIABLE = "TUTELAGE_NO_PLUGINS"
"""Environment variable: names of plugins not to load, with commas between them."""

Offered = Literal["models", "prompt_sets", "example_sets", "rated_sets", "rubrics", "pair_rules"]


@frozen
class _Registered:
    plugin: object
    status: PluginStatus
    facts: InspectedPlugin


class _NameTakenError(PluginError):
    """Another plugin has the name or alias already."""


class Registry:
    """The plugins of one process. Make one with ``discover`` or ``empty``; add to it with ``register``."""

    def __init__(self) -> None:
        self._manager = new_manager()
        self._registered: dict[str, _Registered] = {}
        self._refused: list[PluginStatus] = []
        own = PluginStatus(built_in.NAME, OWN_DISTRIBUTION, importlib.metadata.version(OWN_DISTRIBUTION))
        self._register(built_in, own)

    @classmethod
    def empty(cls) -> Registry:
        """A registry with core's own plugin alone, for tests and for library users who register theirs."""
        return cls()

    @classmethod
    def discover(cls, blocked: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Registry:
        """Load every installed plugin (entry points of the group ``tutelage``) that is not blocked.

        ``blocked`` names plugins not to load, as ``TUTELAGE_NO_PLUGINS=a,b`` in ``environment`` does. A plugin that is
        blocked by an alias is imported, since only the plugin knows its aliases, but cannot be used. A plugin that
        cannot be loaded is in ``statuses()`` with its error and stops nobody. Raises ``InputError`` where a blocked
        name is not installed.
        """
        registry = cls()
        found = installed()
        why_blocked = dict.fromkeys(_names(environment.get(BLOCK_VARIABLE, "")), f"blocked by {BLOCK_VARIABLE}")
        why_blocked |= dict.fromkeys(blocked, "blocked by --no-plugin")
        to_load = []
        for name, claims in found.items():
            if name in why_blocked:
                registry._refused += [status_of(claim, "blocked", why_blocked[name]) for claim in claims]
                continue
            chosen, refused = settle(claims)
            registry._refused += refused
            if chosen is not None:
                to_load.append(chosen)
        for entry_point in sorted(to_load, key=is_own, reverse=True):  # own plugins first: they keep their aliases
            registry._load(entry_point)
        for name, why in why_blocked.items():
            if name not in found and not registry._block(name, why):
                raise InputError(f"plugin {name!r}, {why}, is not installed{nearest(name, found)}")
        return registry

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin by hand: a module, or any object with hooks. Raises ``PluginError`` where it is not sound."""
        self._register(plugin, PluginStatus(name))

    def unregister(self, name: str) -> None:
        """Take a plugin out again. Raises ``PluginError`` where it is not registered."""
        name = self._get(name).status.name
        self._manager.unregister(name=name)
        del self._registered[name]

    def statuses(self) -> list[PluginStatus]:
        """What became of every plugin, by name. Core's own, which is always there, is not listed."""
        loaded = [registered.status for registered in self._installed().values()]
        return sorted(loaded + self._refused, key=lambda status: (status.name, status.distribution or ""))

    def names(self, hook: str | None = None) -> list[str]:
        """Names of the plugins that can be used; with ``hook``, of those that implement it."""
        return sorted(
            name for name, registered in self._installed().items() if hook is None or hook in registered.facts.hooks
        )

    def name_of(self, name: str) -> str:
        """The name of the plugin that is found under ``name``, which may be one of its aliases.

        Any other text is returned as it is. A plugin is found under its own name before another one's alias.
        """
        if name in self._registered:
            return name
        is_refused = any(status.name == name for status in self._refused)
        for status in self.statuses():
            if name in status.aliases and not (is_refused and status.distribution != OWN_DISTRIBUTION):
                return status.name
        return name

    def info(self, name: str) -> PluginInfo:
        """A plugin's description of itself. Raises ``PluginError`` where it cannot be used."""
        return self._get(name).facts.info

    def label(self, name: str) -> str:
        """A plugin's name and origin for messages. Raises ``PluginError`` where it cannot be used."""
        return self._get(name).status.label

    def hooks(self, name: str) -> tuple[str, ...]:
        """The hooks that a plugin implements. Raises ``PluginError`` where it cannot be used."""
        return self._get(name).facts.hooks

    def wrappers(self, hook: str) -> list[str]:
        """Names of the plugins that wrap a hook, whoever implements it."""
        return sorted(name for name, registered in self._registered.items() if hook in registered.facts.wraps)

    def require(self, name: str, hook: str) -> None:
        """Check, before any work starts, that a plugin can be used for a hook.

        Raises ``PluginError`` that says whether it is not installed, blocked, broken, or does not implement the hook.
        """
        if hook not in self.hooks(name):
            others = ", ".join(self.names(hook)) or "none"
            raise PluginError(f"{self.label(name)} does not implement {hook!r}; installed plugins that do: {others}")

    def caller(self, name: str, hook: str) -> Callable[..., Any]:
        """One plugin's hook, called with keyword arguments only. Raises ``PluginError`` as ``require`` does.

        Other plugins that implement the hook are left out. Those that only wrap it stay around this one; pluggy takes
        a plugin out with everything it has, which is why a wrapper of a hook should not implement the same hook.
        """
        self.require(name, hook)
        name = self.name_of(name)
        others = [
            registered.plugin
            for other, registered in self._registered.items()
            if other != name and hook in registered.facts.hooks
        ]
        return self._manager.subset_hook_caller(hook, others)

    def settings(self, name: str, values: Mapping[str, Any], where: str) -> Any:
        """A plugin's settings from plain values; None if the plugin has no settings class.

        ``where`` begins each line of the error. Raises ``InputError`` with every problem of the values, also if there
        are values for a plugin without settings, and ``PluginError`` if the plugin cannot be used.
        """
        cls = self.info(name).settings
        if cls is not None:
            return structure(cls, dict(values), where)
        if values:
            given = ", ".join(map(str, values))
            raise InputError(f"{where}: this plugin has no settings, but got {given}; leave them out")
        return None

    @overload
    def find(self, kind: Literal["models"], name: str) -> NamedModel | None: ...
    @overload
    def find(self, kind: Literal["prompt_sets"], name: str) -> NamedSet[str | Prompt] | None: ...
    @overload
    def find(self, kind: Literal["example_sets"], name: str) -> NamedSet[Example] | None: ...
    @overload
    def find(self, kind: Literal["rated_sets"], name: str) -> NamedSet[RatedExample] | None: ...
    @overload
    def find(self, kind: Literal["rubrics"], name: str) -> Rubric | None: ...
    @overload
    def find(self, kind: Literal["pair_rules"], name: str) -> PairRule | None: ...

    def find(self, kind: Offered, name: str) -> Any:
        """What a plugin offers as ``PLUGIN/NAME``, or core as ``NAME``; None if the text names no offer of a plugin.

        A text of another kind (a hub name, a path) gives None. Raises ``InputError`` if the plugin offers things of
        this kind but not that name, and ``PluginError`` if the plugin cannot be used.
        """
        plugin, slash, offer = name.partition("/")
        if not slash:
            return getattr(self.info(built_in.NAME), kind).get(name)
        if not self._knows(plugin):
            return None
        offered = getattr(self.info(plugin), kind)
        if not offered:
            return None  # a hub name such as openai/gpt-oss-20b, whose owner has the name of a plugin
        if offer not in offered:
            known = (f"{plugin}/{other}" for other in offered)
            raise InputError(f"{self.label(plugin)} has no {_kind_words(kind)} {name!r}{nearest(name, known)}")
        return offered[offer]

    @overload
    def get(self, kind: Literal["models"], name: str) -> NamedModel: ...
    @overload
    def get(self, kind: Literal["prompt_sets"], name: str) -> NamedSet[str | Prompt]: ...
    @overload
    def get(self, kind: Literal["example_sets"], name: str) -> NamedSet[Example]: ...
    @overload
    def get(self, kind: Literal["rated_sets"], name: str) -> NamedSet[RatedExample]: ...
    @overload
    def get(self, kind: Literal["rubrics"], name: str) -> Rubric: ...
    @overload
    def get(self, kind: Literal["pair_rules"], name: str) -> PairRule: ...

    def get(self, kind: Offered, name: str) -> Any:
        """As ``find``, for what must be there. Raises ``InputError`` that names the nearest if nothing is found."""
        found: Any = self.find(kind, name)
        if found is None:
            raise InputError(f"no {_kind_words(kind)} {name!r}{nearest(name, self.offered(kind))}")
        return found

    def offered(self, kind: Offered) -> dict[str, Any]:
        """Everything of one kind that core and the plugins offer, by the name that ``find`` takes."""
        return {
            name if plugin == built_in.NAME else f"{plugin}/{name}": value
            for plugin in self._registered
            for name, value in getattr(self.info(plugin), kind).items()
        }

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
        raise PluginError(f"plugin {name!r} is not installed{nearest(name, self.names())}")

    def _register(self, plugin: object, status: PluginStatus) -> None:
        name = status.name
        self._check_is_free(name, status)
        facts = inspect_plugin(plugin, name)
        for alias in facts.info.aliases:
            self._check_is_free(alias, status)
        for registered in self._registered.values():
            if registered.plugin == plugin:
                raise PluginError(f"it is the same object as {registered.status.label}")
        self._manager.register(plugin, name)
        hooks = (*facts.hooks, *(f"{hook} (wrapper)" for hook in facts.wraps))
        described = evolve(status, hooks=hooks, aliases=facts.info.aliases)
        self._registered[name] = _Registered(plugin, described, facts)

    def _check_is_free(self, name: str, claimant: PluginStatus) -> None:
        """Raise ``PluginError`` if a registered plugin has this name or alias; the one that came first keeps it."""
        for registered in self._registered.values():
            status = registered.status
            if name == status.name == claimant.name:
                raise _NameTakenError(f"the name {name!r} is taken: {status.label} is registered already")
            if name in (status.name, *status.aliases):
                raise _NameTakenError(
                    f"{status.label} and {claimant.label} both have the name or alias {name!r}; "
                    f"only {status.name!r} is loaded: uninstall or rename the other"
                )

    def _load(self, entry_point: EntryPoint) -> None:
        status = status_of(entry_point, "ok")
        try:
            self._check_is_free(status.name, status)  # before its code runs
            self._register(entry_point.load(), status)
        except KeyboardInterrupt:
            raise
        except _NameTakenError as error:
            self._refused.append(evolve(status, status="clash", error=str(error)))
        except BaseException as error:  # a module may even call sys.exit() when it is imported
            why = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            trace = "".join(traceback.format_exception(error))
            self._refused.append(status_of(entry_point, "failed", why, trace))

    def _block(self, alias: str, why: str) -> bool:
        """Take out the plugin that has this alias, and keep its status as blocked; False if no plugin has it."""
        name = self.name_of(alias)
        if name not in self._registered:
            return False
        status = self._registered[name].status
        self.unregister(name)
        self._refused.append(evolve(status, status="blocked", hooks=(), error=why))
        return True


def _kind_words(kind: Offered) -> str:
    """``pair_rules`` as a person writes one of them: ``pair rule``."""
    return kind.removesuffix("s").replace("_", " ")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
