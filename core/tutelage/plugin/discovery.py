"""What became of each installed plugin, and which of several with one name is loaded."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any, Literal

from attrs import field, frozen

from tutelage.hookspecs import ENTRY_POINT_GROUP

OWN_DISTRIBUTION = "tutelage"
"""Where two distributions use one plugin name, the plugin that ships with tutelage keeps it."""

State = Literal["ok", "blocked", "failed", "clash"]


@frozen
class PluginStatus:
    """One plugin, and whether it can be used."""

    name: str
    distribution: str | None = None
    """None where it was registered by hand."""
    version: str | None = None
    aliases: tuple[str, ...] = ()
    """Other names under which the plugin is found; known once it is loaded."""
    status: State = "ok"
    hooks: tuple[str, ...] = ()
    """Those that it implements; one that it only wraps as ``judge (wrapper)``."""
    error: str | None = None
    """Why, where the status is not ``ok``."""
    traceback: str = field(default="", repr=False)
    """Of the exception that loading it raised."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``tutelage plugins --json``."""
        keys = ("name", "aliases", "distribution", "version", "status", "hooks", "error")
        values = {key: getattr(self, key) for key in keys}
        return values | {"aliases": list(self.aliases), "hooks": list(self.hooks)}

    @property
    def origin(self) -> str:
        """Distribution and version: ``tutelage 0.1.0``."""
        if self.distribution is None:
            return "registered by hand"
        return f"{self.distribution} {self.version or '(unknown version)'}"

    @property
    def label(self) -> str:
        """Name and origin for messages: ``plugin 'tiny' (tutelage 0.1.0)``."""
        return f"plugin {self.name!r} ({self.origin})"


def is_own(entry_point: EntryPoint) -> bool:
    """Whether the plugin ships with tutelage."""
    return status_of(entry_point, "ok").distribution == OWN_DISTRIBUTION


def installed() -> dict[str, list[EntryPoint]]:
    """The entry points of the group ``tutelage`` by plugin name: several where distributions claim one name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        found.setdefault(entry_point.name, []).append(entry_point)
    return dict(sorted(found.items()))


def status_of(entry_point: EntryPoint, status: State, error: str | None = None, trace: str = "") -> PluginStatus:
    """The status of one entry point; a damaged installation may have lost its distribution's name or version."""
    metadata: Any = entry_point.dist.metadata if entry_point.dist else {}
    return PluginStatus(
        name=entry_point.name,
        distribution=metadata.get("Name", "unknown distribution"),
        version=metadata.get("Version"),
        status=status,
        error=error,
        traceback=trace,
    )


def settle(claims: Sequence[EntryPoint]) -> tuple[EntryPoint | None, list[PluginStatus]]:
    """Of the claims on one name, the one to load, and the status of the others.

    tutelage's own plugins cannot be shadowed; among strangers nothing says which one is meant, and none is loaded.
    """
    own = [claim for claim in claims if is_own(claim)]
    chosen = next((group[0] for group in (own, claims) if len(group) == 1), None)
    origins = " and ".join(status_of(claim, "ok").origin for claim in claims)
    outcome = "only tutelage's own is loaded" if chosen else "none of them is loaded"
    error = f"{origins} both register a plugin {claims[0].name!r}; {outcome}: uninstall or rename the other"
    return chosen, [status_of(claim, "clash", error) for claim in claims if claim is not chosen]
