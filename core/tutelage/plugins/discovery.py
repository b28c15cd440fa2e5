"""The installed plugins and their status, and the choice among several plugins with the same name."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from tutelage.hookspecs import ENTRY_POINT_GROUP
from tutelage.installation import plugin_of_checkout

OWN_DISTRIBUTION = "tutelage"
"""The distribution whose plugins keep their names if another distribution registers the same name."""

State = Literal["ok", "blocked", "failed", "clash"]


@frozen
class PluginStatus:
    """One plugin, and whether it can be used."""

    name: str
    """Name of the plugin."""
    distribution: str | None = None
    """Name of the distribution; None if the plugin is not installed."""
    version: str | None = None
    """Version of the distribution; None if it is unknown."""
    aliases: tuple[str, ...] = ()
    """Other names of the plugin; empty until the plugin is loaded."""
    status: State = "ok"
    """``ok``: it can be used. ``blocked``: the user excluded it. ``failed``: it cannot be loaded. ``clash``: another
    plugin has its name."""
    hooks: tuple[str, ...] = ()
    """The hooks that the plugin implements. A hook that it only wraps is listed as ``judge (wrapper)``."""
    error: str | None = None
    """The reason, if the status is not ``ok``."""
    traceback: str = field(default="", repr=False)
    """Traceback of the exception that loading the plugin raised."""
    path: Path | None = None
    """The file that the plugin was loaded from; None for a plugin that is installed or was registered manually."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for ``tutelage plugins --json``."""
        keys = ("name", "aliases", "distribution", "version", "status", "hooks", "error")
        values = {key: getattr(self, key) for key in keys}
        return values | {"aliases": list(self.aliases), "hooks": list(self.hooks)}

    @property
    def origin(self) -> str:
        """Distribution and version: ``tutelage 0.1.0``; or the file."""
        if self.path is not None:
            return f"file {self.path}"
        if self.distribution is None:
            return "registered manually"
        return f"{self.distribution} {self.version or '(unknown version)'}"

    @property
    def label(self) -> str:
        """Name and origin for messages: ``plugin 'tiny' (tutelage 0.1.0)``."""
        return f"plugin {self.name!r} ({self.origin})"


def is_own(entry_point: EntryPoint) -> bool:
    """Return whether the plugin ships with tutelage."""
    return status_of(entry_point, "ok").distribution == OWN_DISTRIBUTION


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group ``tutelage`` by plugin name. Several distributions may use one name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(entry_point.name, []).append(entry_point)
    return dict(sorted(found.items()))


def status_of(entry_point: EntryPoint, status: State, error: str | None = None, trace: str = "") -> PluginStatus:
    """Return the status of one entry point. In a damaged installation, the name or the version may be unknown."""
    metadata: Any = entry_point.dist.metadata if entry_point.dist else {}
    return PluginStatus(
        name=entry_point.name,
        distribution=metadata.get("Name", "unknown distribution"),
        version=metadata.get("Version"),
        status=status,
        error=error,
        traceback=trace,
    )


def resolve_clash(entry_points: Sequence[EntryPoint]) -> tuple[EntryPoint | None, list[PluginStatus]]:
    """Return the one of several entry points with the same name to load, and the status of the others.

    tutelage's own plugin takes precedence. If all are third-party plugins, none is loaded, because it is unclear which
    one the user wants.
    """
    own = [entry_point for entry_point in entry_points if is_own(entry_point)]
    chosen = next((group[0] for group in (own, entry_points) if len(group) == 1), None)
    origins = " and ".join(status_of(entry_point, "ok").origin for entry_point in entry_points)
    outcome = "only tutelage's own is loaded" if chosen else "none of them is loaded"
    error = f"{origins} both register a plugin {entry_points[0].name!r}; {outcome}: uninstall or rename the other"
    return chosen, [status_of(entry_point, "clash", error) for entry_point in entry_points if entry_point is not chosen]


def installation_hint(name: str) -> str:
    """Return why a plugin is not found although there is something with its name, to append to a message.

    It may be registered under another group, its distribution may register no plugin or one with another name, it may
    be a file in the working folder, or a package of tutelage's checkout. The hint is empty if none of this is the case.
    """
    if name in installed():
        return ""  # the registry was made without the installed plugins
    for entry in importlib.metadata.entry_points(name=name):
        if ENTRY_POINT_GROUP in entry.group and entry.dist is not None:
            return (
                f"; {entry.dist.name} registers it in the entry-point group {entry.group!r}: write "
                f"[project.entry-points.{ENTRY_POINT_GROUP}] in its pyproject.toml, and install it again"
            )
    named = {_normalized(name), f"{ENTRY_POINT_GROUP}-{_normalized(name)}"}
    for distribution in importlib.metadata.distributions():
        metadata: Any = distribution.metadata
        found = metadata.get("Name") or ""  # a damaged installation has none
        if _normalized(found) in named - {OWN_DISTRIBUTION}:
            plugins = [entry.name for entry in distribution.entry_points if entry.group == ENTRY_POINT_GROUP]
            if plugins:
                return f"; the plugin of the distribution {found} is named {', '.join(map(repr, plugins))}"
            return (
                f"; the distribution {found} is installed, but registers no plugin: name its module under "
                f"[project.entry-points.{ENTRY_POINT_GROUP}] in its pyproject.toml, and install it again"
            )
    if Path(f"{name}.py").is_file():
        return f"; {name}.py is a file in this folder, which `--plugin {name}.py` loads"
    command = plugin_of_checkout(_normalized(name))
    return f"; install it: {command}" if command else ""


def _normalized(name: str) -> str:
    """The name of a distribution as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
