"""What an actor does: it calls the stages of another plugin, on the node on which Ray has started it.

Results and failures are returned as plain records. An exception would arrive with the traceback of another process in
its message.
"""

from __future__ import annotations

import importlib.metadata
import socket
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage import Model
from tutelage.errors import InputError, PluginError, StageError, TutelageError
from tutelage.plugins import stages
from tutelage_ray.settings import registry


@frozen
class Started:
    """What an actor finds on its node."""

    node: str
    """The node, for messages."""
    versions: str = ""
    """The versions of tutelage and of the plugin that runs the model."""
    problem: str = ""
    """Why the plugin cannot be used on this node; empty if it can."""


@frozen
class Failed:
    """Why the items of a call have no results."""

    kind: type[TutelageError]
    """The error to raise: an ``InputError`` if the input or the settings are wrong, for example."""
    message: str
    traceback: str
    """The traceback on the node; empty if no other exception caused the error, so that the message explains it."""
    item: str = ""
    """The id of the item that fails by itself; empty if the failure does not depend on one item."""

    @classmethod
    def of(cls, error: Exception, item: str = "") -> Failed:
        """Return the failure for an exception."""
        if isinstance(error, TutelageError):
            has_cause = error.__cause__ is not None and not isinstance(error, InputError)
            return cls(type(error), str(error), _text(error) if has_cause else "", item)
        return cls(StageError, f"{type(error).__name__}: {error}", _text(error), item)

    def error(self, about: str) -> TutelageError:
        """Return the error to raise in the run. ``about`` begins the message."""
        error = self.kind(f"{about}: {self.message}")
        error.__cause__ = RemoteError(f"\n{self.traceback}") if self.traceback else None
        return error


class RemoteError(Exception):
    """The traceback of an exception on a node."""


class Actor:
    """The stages of one model. The weights are loaded at the first call, by the plugin that runs the model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def start(self) -> Started:
        """Return the node, and the versions of what is installed there or why it cannot be used."""
        import ray

        address, id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        node = f"node {socket.gethostname()} ({address}, {id[:8]})"
        try:
            return Started(node, versions_of(self._model.plugin))
        except PluginError as error:
            return Started(node, problem=str(error))

    def work(self, hook: str, items: Sequence[Any], arguments: Mapping[str, Any]) -> list[Any] | Failed:
        """Return the results of a stage for some items, or why there are none."""
        try:
            return self._results(hook, items, arguments)
        except Exception as error:
            return Failed.of(error, self._cause(hook, items, arguments))

    def _results(self, hook: str, items: Sequence[Any], arguments: Mapping[str, Any]) -> list[Any]:
        return list(getattr(stages, hook)(registry(self._model.plugin), self._model, items, **arguments))

    def _cause(self, hook: str, items: Sequence[Any], arguments: Mapping[str, Any]) -> str:
        """Return the id of the first item that fails by itself. Empty if none does, or if the first two do."""

        def fails(item: Any) -> bool:
            try:
                self._results(hook, [item], arguments)
            except Exception:
                return True
            return False

        failing = next(filter(fails, items), None) if len(items) > 1 else None
        if failing is None or (failing is items[0] and fails(items[1])):
            return ""
        return str(failing.id)


def versions_of(plugin: str) -> str:
    """Return the versions of tutelage and of a plugin. Raises ``PluginError`` if the plugin cannot be used."""
    return f"tutelage {importlib.metadata.version('tutelage')}, {registry(plugin).label(plugin)}"


def _text(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
