"""pytest fixtures for the tests of a plugin; enabled by ``pytest_plugins = ["tutelage.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tutelage.plugins.registry import Registry


@pytest.fixture
def plugin_registry() -> Registry:
    """A new registry without plugins."""
    return Registry.empty()


@pytest.fixture
def register_plugin(plugin_registry: Registry) -> Iterator[Callable[[object, str], Registry]]:
    """``register_plugin(plugin, name)`` registers a plugin and returns the registry; it is removed after the test."""
    names: list[str] = []

    def register(plugin: object, name: str) -> Registry:
        plugin_registry.register(plugin, name)
        names.append(name)
        return plugin_registry

    yield register
    for name in names:
        plugin_registry.unregister(name)
