"""The doctor reports for each plugin what is available and what is missing, and raises no error."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from attrs import frozen

from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import EnvironmentVariable, Finding, PluginInfo
from tutelage.plugins.doctor import Diagnosis, examine
from tutelage.plugins.registry import Registry
from tutelage.records import Model


@frozen
class Settings:
    port: int = 1


@hookimpl
def check(settings: Settings | None, name: str) -> Iterator[Finding]:
    yield Finding("endpoint", True, f"port {settings.port if settings else '?'}")
    yield Finding("model", name == "there", name)


def plugin(check: Any = None, **info: Any) -> object:
    @hookimpl
    def describe() -> PluginInfo:
        return PluginInfo(help="For the doctor.", **info)

    @hookimpl
    def demonstrate(prompts: Any) -> Any:
        return iter(())

    module = ModuleType("module")
    module.describe, module.demonstrate = describe, demonstrate  # type: ignore[attr-defined]
    if check is not None:
        module.check = check  # type: ignore[attr-defined]
    return module


@pytest.fixture
def registry() -> Registry:
    registry = Registry.empty()
    registry.register(plugin(settings=Settings, check=check), "api")
    registry.register(plugin(environment=(EnvironmentVariable("SOME_KEY", "opens it"),)), "keyed")
    return registry


def summaries(diagnoses: list[Diagnosis]) -> list[tuple[str, str, bool | None]]:
    return [(found.plugin, found.finding.what, found.finding.ok) for found in diagnoses]


def test_every_plugin_is_checked_with_its_default_settings(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    found = examine(registry)
    assert summaries(found) == [("api", "endpoint", True), ("api", "model", False), ("keyed", "environment", False)]
    assert found[2].finding.detail == "SOME_KEY is not set: opens it"
    monkeypatch.setenv("SOME_KEY", "x")
    assert summaries(examine(registry))[2] == ("keyed", "plugin", True)


def test_the_models_of_a_recipe_are_checked_with_their_settings(registry: Registry) -> None:
    found = examine(registry, [Model("api", "there", {"port": 7}, id="judge")])
    assert summaries(found) == [("api", "endpoint", True), ("api", "model", True)]
    assert (found[0].role, found[0].finding.detail) == ("judge", "port 7")


def test_wrong_settings_and_missing_plugins_are_findings(registry: Registry) -> None:
    found = examine(registry, [Model("api", settings={"prot": 7}), Model("nowhere")])
    assert summaries(found) == [("api", "settings", False), ("nowhere", "plugin", False)]
    assert "did you mean 'port'" in found[0].finding.detail


@hookimpl
def broken(name: str) -> Iterator[Finding]:
    yield Finding("SDK", True, "there")
    raise KeyError("no key")


def test_a_check_that_raises_is_a_finding_that_names_the_plugin_and_the_other_plugins_are_checked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "x")
    registry.register(plugin(check=broken), "broken")
    found = examine(registry, [Model("broken", "large"), Model("keyed")])
    assert summaries(found) == [("broken", "check", False), ("keyed", "plugin", True)]
    assert found[0].finding.detail == (
        "hook 'check' of plugin 'broken' (registered manually), model 'large', failed: KeyError: 'no key' "
        f"(test_doctor.py, line {broken.__code__.co_firstlineno + 3})"
    )
