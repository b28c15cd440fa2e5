"""The helper hooks: the example of each hook works, and errors name hook, plugin, model and address."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tutelage import Conversion, Endpoint, Finding, PluginInfo, Sampling, TokenCounts, hookimpl
from tutelage.errors import InputError, PluginError, StageError
from tutelage.objectives import Dpo, Lora, Sft
from tutelage.plugin_info import RunNeeds
from tutelage.plugins import helpers, stages
from tutelage.plugins.inspection import HOOKS, specification
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Model, Prompt
from tutelage.testing import check_plugin

MODEL = Model("shouty", "large")


def example(*hooks: str) -> ModuleType:
    """A plugin with the examples of these hooks, as their documentation has them."""
    module = ModuleType("shouty")
    for hook in hooks:
        _, _, block = inspect.getdoc(specification(hook)).partition("::\n\n")  # type: ignore[union-attr]
        exec(textwrap.dedent(block), module.__dict__)
    return module


def registry_with(plugin: object, name: str = "shouty") -> Registry:
    registry = Registry.empty()
    registry.register(plugin, name)
    return registry


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_a_hook_is_a_plugin_that_passes_the_kit(hook: str) -> None:
    plugin = example(*dict.fromkeys(["describe", "generate_candidates", hook]))
    assert hook in registry_with(plugin).hooks("shouty")
    check_plugin(plugin, skip=("describe",)).raise_for_problems()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_documents_when_it_is_called_and_each_argument(hook: str) -> None:
    text = inspect.getdoc(specification(hook)) or ""
    assert re.search(r"\bCalled\b", text)
    for argument in inspect.signature(specification(hook)).parameters:
        assert f"- ``{argument}``:" in text, argument


def test_the_helpers_return_what_the_examples_give(tmp_path: Path) -> None:
    registry = registry_with(example(*HOOKS))
    service = helpers.endpoint(registry, MODEL)
    assert service is not None and (service.model, service.base_url) == ("large", "https://api.shouty.example/v1")
    assert registry.info("shouty").item_by_item
    [finding] = helpers.check(registry, MODEL) or []
    assert (finding.what, finding.ok) == ("key", False)
    assert helpers.check_prompts(registry, Model("shouty"), iter(["LOUD"])).startswith("every prompt is in capitals")
    assert helpers.check_prompts(registry, Model("shouty"), iter(["quiet"])) == ""
    [problem] = helpers.check_objective(registry, MODEL, Dpo(lora=Lora()))
    assert problem.startswith("lora: ")
    assert helpers.check_objective(registry, MODEL, Sft()) == []
    rows = [{"prompt": [{"role": "user", "content": "two words"}]}]
    assert helpers.count_tokens(registry, MODEL, rows, download=False) == TokenCounts((2,), 4096)
    assert helpers.devices(registry, MODEL) == 1
    assert helpers.requests_at_once(registry, MODEL) == 256
    with pytest.raises(InputError, match="no GGUF format"):
        helpers.convert(registry, "shouty", tmp_path, tmp_path / "out", Conversion(format="gguf"))


def test_a_plugin_without_helper_hooks_has_no_service_no_problem_and_one_device() -> None:
    registry = registry_with(example("describe", "judge"))
    assert helpers.endpoint(registry, MODEL) is None
    assert helpers.check(registry, MODEL) is None
    assert helpers.check_run(registry, MODEL, RunNeeds(hooks=frozenset())) is None
    assert helpers.check_prompts(registry, Model("shouty"), ["x"]) == ""
    assert helpers.check_objective(registry, MODEL, Sft()) == []
    assert helpers.devices(registry, MODEL) == 1
    assert helpers.requests_at_once(registry, MODEL) == 1
    assert not registry.info("shouty").item_by_item


class Service:
    """A service whose hooks fail."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("Fails.")

    @hookimpl
    def endpoint(self, name: str) -> Endpoint:
        return Endpoint("failing", "https://failing.invalid/v1", name or "default")

    @hookimpl
    def check(self) -> Iterator[Finding]:
        yield Finding("SDK", True, "there")
        raise KeyError("no key")

    @hookimpl
    def check_prompts(self) -> str:
        raise SystemExit(3)

    @hookimpl
    def generate_candidates(self, prompts: Iterable[Prompt]) -> Iterator[Candidate]:
        raise RuntimeError("no answer")
        yield


def place(function: Any, line: int = 3) -> str:
    """The pattern of a line of a decorated function, counted from its decorator."""
    return rf"\(test_helpers\.py, line {function.__code__.co_firstlineno + line}\)"


def test_an_exception_of_a_helper_names_the_hook_the_plugin_the_model_and_its_address() -> None:
    registry = registry_with(Service(), "failing")
    of_model = r"of plugin 'failing' \(registered manually\), model 'large' at https://failing\.invalid/v1, failed: "
    raised = f"KeyError: 'no key' {place(Service.check)}"
    with pytest.raises(PluginError, match=rf"^hook 'check' {of_model}{raised}$") as caught:
        helpers.check(registry, Model("failing", "large"))
    assert isinstance(caught.value.__cause__, KeyError)
    raised = f"SystemExit: 3 {place(Service.check_prompts, 2)}"
    with pytest.raises(PluginError, match=rf"^hook 'check_prompts' of plugin 'failing'.*failed: {raised}$"):
        helpers.check_prompts(registry, Model("failing"), ["x"])
    raised = f"RuntimeError: no answer {place(Service.generate_candidates, 2)}"
    with pytest.raises(StageError, match=rf"^hook 'generate_candidates' {of_model}{raised}$"):
        list(stages.generate_candidates(registry, Model("failing", "large"), [Prompt("x")], 1, Sampling()))


class Wrapper:
    """Counts what others count."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @hookimpl(wrapper=True)
    def devices(self) -> Any:
        number = yield
        self.seen.append(number)
        return number + 1


def test_a_helper_hook_can_be_wrapped_as_a_stage_can() -> None:
    registry, wrapper = registry_with(example("describe", "devices")), Wrapper()
    registry.register(wrapper, "wrapping")
    assert helpers.devices(registry, MODEL) == 2
    assert wrapper.seen == [1]
