"""The hint for a model name that is given where ``PLUGIN[:MODEL]`` is expected."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from tutelage.errors import TutelageError, nearest
from tutelage.plugins.helpers import endpoint
from tutelage.plugins.registry import Registry
from tutelage.records import Model


def plugin_hint(text: str, registry: Registry, hooks: Collection[str] = ()) -> str:
    """Return a hint for a text ``NAME`` or ``NAME:MODEL`` without a plugin ``NAME``, to append to a message.

    ``hooks`` are those that the plugin must implement. The hint is '; did you mean PLUGIN:TEXT?' if the text is a model
    that fits one plugin only: a plugin with a service fits a model whose price it knows; for a hub name or a folder of
    weights, a plugin fits that reads checkpoints. Otherwise, the hint is the nearest name of a plugin, or the list of
    the plugins that implement the hooks.
    """
    able = [name for name in registry.names() if set(hooks) <= set(registry.hooks(name))]
    if len(priced := [name for name in able if _knows_price(name, text, registry)]) == 1:
        return f"; did you mean {priced[0]}:{text}?"
    plugin = text.partition(":")[0]
    if "/" not in plugin and "did you mean" in (near := nearest(plugin, registry.names())):
        return near
    readers = [name for name in able if _reads_weights(name, registry)]
    if _names_weights(text) and len(readers) == 1:
        return f"; did you mean {readers[0]}:{text}?"
    wanted = f" that implement {' and '.join(map(repr, sorted(hooks)))}" if hooks else ""
    return f"; write PLUGIN or PLUGIN:MODEL; the plugins{wanted} are {', '.join(able) or 'none'}"


def _names_weights(text: str) -> bool:
    """Whether the text is a hub name (OWNER/MODEL), or a folder of weights."""
    if Path(text, "config.json").is_file():
        return True
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not Path(text).parent.is_dir()


def _reads_weights(name: str, registry: Registry) -> bool:
    return "endpoint" not in registry.hooks(name) and "count_tokens" in registry.hooks(name)


def _knows_price(name: str, model: str, registry: Registry) -> bool:
    try:
        service = endpoint(registry, Model(name, model), name)
        return service is not None and service.cost(1, 1) is not None
    except TutelageError:  # for example if a setting of the plugin is required
        return False
