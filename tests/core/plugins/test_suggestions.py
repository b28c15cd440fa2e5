"""The hint for a model without its plugin: PLUGIN:MODEL if one plugin fits, otherwise the plugins to choose from."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import frozen

from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import PluginInfo
from tutelage.plugins.registry import Registry
from tutelage.plugins.suggestions import plugin_hint
from tutelage.services.requests import Endpoint


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The plugins that ship with tutelage."""
    return Registry.discover(environment={})


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Qwen/Qwen2.5-0.5B", "; did you mean transformers:Qwen/Qwen2.5-0.5B?"),
        ("openai/gpt-oss-20b", "; did you mean transformers:openai/gpt-oss-20b?"),  # a hub name, not the service
        ("tiny/student", "; did you mean transformers:tiny/student?"),
        ("gpt-4o", "; did you mean openai:gpt-4o?"),
        ("gpt-4-turbo", "; did you mean openai:gpt-4-turbo?"),
        ("gemini-2.5-flash", "; did you mean gemini:gemini-2.5-flash?"),
        ("transfomers", "; did you mean 'transformers'?"),
        ("opnai:gpt-4o", "; did you mean 'openai'?"),
        ("transfomers:Qwen/Qwen2.5-0.5B", "; did you mean 'transformers'?"),
    ],
)
def test_a_model_name_is_completed_with_the_only_plugin_that_fits(registry: Registry, text: str, hint: str) -> None:
    assert plugin_hint(text, registry) == hint


@pytest.mark.parametrize("text", ["qwen2.5:7b-instruct", "my-own-server-model", "claude-3"])
def test_a_name_that_no_plugin_knows_gets_the_plugins_that_have_the_hooks(registry: Registry, text: str) -> None:
    hint = plugin_hint(text, registry, ["judge", "evaluate"])
    able = [name for name in registry.names("judge") if name in registry.names("evaluate")]
    assert (
        hint
        == f"; write PLUGIN or PLUGIN:MODEL; the plugins that implement 'evaluate' and 'judge' are {', '.join(able)}"
    )
    assert "transformers" in plugin_hint(text, registry, ["train_step"])
    assert "openai" not in plugin_hint(text, registry, ["train_step"])


def test_a_folder_is_a_model_only_if_it_has_weights(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert "did you mean" not in plugin_hint("models/mine", registry)
    (tmp_path / "models/mine/config.json").write_text("{}")
    assert plugin_hint("models/mine", registry) == "; did you mean transformers:models/mine?"
    assert plugin_hint("./models/mine", registry) == "; did you mean transformers:./models/mine?"


def test_two_plugins_that_fit_are_both_listed(tmp_path: Path) -> None:
    class Student:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Reads weights.")

        @hookimpl
        def count_tokens(self) -> None: ...

        @hookimpl
        def train_step(self) -> None: ...

    registry = Registry.empty()
    registry.register(Student(), "one")
    assert plugin_hint("a/b", registry, ["train_step"]) == "; did you mean one:a/b?"
    registry.register(Student(), "two")
    assert plugin_hint("a/b", registry, ["train_step"]).endswith("the plugins that implement 'train_step' are one, two")


def test_a_plugin_whose_settings_are_required_does_not_hide_the_others() -> None:
    @frozen
    class Settings:
        url: str

    class Strict:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Needs an address.", settings=Settings)

        @hookimpl
        def endpoint(self, settings: Settings, name: str) -> Endpoint:
            return Endpoint("strict", settings.url, name)

    registry = Registry.discover(environment={})
    registry.register(Strict(), "strict")
    assert plugin_hint("gpt-4o", registry) == "; did you mean openai:gpt-4o?"
