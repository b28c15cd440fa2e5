"""pytest fixtures for a plugin's tests; its ``conftest.py`` says ``pytest_plugins = ["tutelage.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tutelage.plugin.registry import Registry


@pytest.fixture
def plugin_registry() -> Registry:
    """A fresh registry without any plugin."""
    return Registry.empty()


@pytest.fixture
def register_plugin(plugin_registry: Registry) -> Iterator[Callable[[object, str], Registry]]:
    """``register_plugin(plugin, name)`` gives the registry with the plugin in it; it is taken out after the test."""
    names: list[str] = []

    def register(plugin: object, name: str) -> Registry:
        plugin_registry.register(plugin, name)
        names.append(name)
        return plugin_registry

    yield register
    for name in names:
        plugin_registry.unregister(name)
