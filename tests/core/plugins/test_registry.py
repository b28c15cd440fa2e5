"""Plugins are discovered, each separately; requiring a plugin that cannot be used is an error with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.objectives import PairLoss
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import TrainStep, TransformStep
from tutelage.plugin_info import NamedModel, NamedSet, PluginInfo
from tutelage.plugins.inspection import unmarked_hooks
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Demonstration, Judgement, Model, Prompt, Rubric


class Echo:
    """A valid plugin."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(
            "Repeats the prompt.",
            models={"loud": NamedModel("loud-1")},
            prompt_sets={"few": NamedSet(lambda count, seed: ["a", "b"][:count])},
            rubrics={"short": Rubric("short")},
            pair_rules={"any": sorted},
        )

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        for prompt in prompts:
            yield Demonstration(prompt.id, prompt.text)


@pytest.fixture
def registry() -> Registry:
    made = Registry.empty()
    made.register(Echo(), "echo")
    return made


def refused(plugin: object, name: str = "plugin") -> str:
    registry = Registry.empty()
    with pytest.raises(PluginError) as caught:
        registry.register(plugin, name)
    assert registry.statuses() == []
    return str(caught.value)


# Discovery, over real distributions


def discover_in(folder: Path, code: str, **environment: str) -> Any:
    """Run a snippet that prints JSON in a process that sees the distributions in a folder."""
    program = f"import json\nfrom tutelage.plugins.registry import Registry\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


STATUSES = "print(json.dumps([status.as_json() for status in Registry.discover().statuses()]))"


@pytest.fixture(scope="module")
def found(broken_plugins: Path) -> dict[tuple[str, str], dict[str, Any]]:
    statuses = discover_in(broken_plugins, STATUSES)
    return {(status["name"], status["distribution"]): status for status in statuses}


@pytest.mark.parametrize(
    ("name", "distribution", "status", "error"),
    [
        ("raises", "tutelage-raises-on-import", "failed", "RuntimeError: the engine room is flooded"),
        ("exits", "tutelage-exits-on-import", "failed", "SystemExit: usage: this is a script"),
        ("misspelled", "tutelage-misspelled-hook", "failed", "there is no hook 'jugde'; did you mean 'judge'?"),
        (
            "defaulted",
            "tutelage-argument-with-default",
            "failed",
            "generate_candidates: argument 'n' has a default and may never be passed: remove the default",
        ),
        (
            "tiny",
            "tutelage-clashing-name",
            "clash",
            "tutelage-clashing-name 1.2.3 and tutelage 0.1.0 both register a plugin 'tiny'; "
            "only tutelage's own is loaded: uninstall or rename the other",
        ),
    ],
)
def test_a_broken_distribution_is_reported_with_its_name_and_its_problem(
    found: dict[tuple[str, str], dict[str, Any]], name: str, distribution: str, status: str, error: str
) -> None:
    assert found[name, distribution] == {
        "name": name,
        "aliases": [],
        "distribution": distribution,
        "version": "1.2.3",
        "status": status,
        "hooks": [],
        "error": error,
    }


def test_broken_distributions_do_not_affect_the_plugins_that_ship_with_tutelage(
    found: dict[tuple[str, str], dict[str, Any]],
) -> None:
    for name in ("tiny", "transformers"):
        shipped = found[name, "tutelage"]
        assert (shipped["status"], shipped["error"]) == ("ok", None)
        assert "describe" in shipped["hooks"]


def test_the_traceback_of_a_failed_import_is_kept_and_points_into_the_package(broken_plugins: Path) -> None:
    code = "print(json.dumps([s.traceback for s in Registry.discover().statuses() if s.name == 'raises']))"
    (trace,) = discover_in(broken_plugins, code)
    assert "tutelage_raises_on_import.py" in trace
    assert trace.rstrip().endswith("RuntimeError: the engine room is flooded")


def test_a_blocked_plugin_is_not_even_imported(broken_plugins: Path) -> None:
    code = (
        "import sys; r = Registry.discover(blocked=['raises']);"
        "print(json.dumps([[s.name, s.status, s.error] for s in r.statuses() if s.status == 'blocked'] "
        "+ [sorted(set(sys.modules) & {'tutelage_misspelled_hook', 'tutelage_argument_with_default'})]))"
    )
    assert discover_in(broken_plugins, code, TUTELAGE_NO_PLUGINS="misspelled, ,defaulted") == [
        ["defaulted", "blocked", "blocked by TUTELAGE_NO_PLUGINS"],
        ["misspelled", "blocked", "blocked by TUTELAGE_NO_PLUGINS"],
        ["raises", "blocked", "blocked by --no-plugin"],
        [],
    ]


def test_discovery_imports_nothing_heavy() -> None:
    code = "import sys; Registry.discover(); print(json.dumps(sorted(sys.modules)))"
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "openai", "google.generativeai", "numpy", "scipy"}
    assert heavy & set(discover_in(Path("/nowhere"), code)) == set()


def distribution(folder: Path, name: str, plugin: str, code: str, metadata: bool = True) -> None:
    """Write the files that an installer writes: a module and its ``dist-info``."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(f"[tutelage]\n{plugin} = {module}\n")
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


SOUND = '''"""A valid third-party plugin."""
from tutelage.hookspecs import hookimpl
@hookimpl
def demonstrate(prompts): yield from ()
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_third_party_plugin_is_found_and_its_help_is_its_docstring(site: Path) -> None:
    distribution(site, "sound-one", "sound", SOUND)
    registry = Registry.discover(environment={})
    assert registry.info("sound").help == "A valid third-party plugin."
    assert registry.label("sound") == "plugin 'sound' (sound-one 1.0)"


def test_of_two_third_party_plugins_with_one_name_none_is_loaded_and_both_are_named(site: Path) -> None:
    distribution(site, "clash-a", "twin", SOUND)
    distribution(site, "clash-b", "twin", SOUND)
    registry = Registry.discover(environment={})
    statuses = [status for status in registry.statuses() if status.name == "twin"]
    assert [(status.distribution, status.status) for status in statuses] == [("clash-a", "clash"), ("clash-b", "clash")]
    with pytest.raises(PluginError, match=r"clash-a 1\.0 and clash-b 1\.0|clash-b 1\.0 and clash-a 1\.0"):
        registry.require("twin", "demonstrate")
    assert not {"clash_a", "clash_b"} & set(sys.modules)


def test_an_installation_that_lost_its_metadata_is_still_reported(site: Path) -> None:
    distribution(site, "damaged-one", "damaged", "import nothing_of_that_name", metadata=False)
    (status,) = [status for status in Registry.discover(environment={}).statuses() if status.name == "damaged"]
    assert status.error == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert "unknown" in status.origin


def test_the_users_interrupt_during_an_import_ends_discovery(site: Path) -> None:
    distribution(site, "interrupted-one", "interrupted", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.discover(environment={})


def test_a_misspelled_name_of_a_plugin_to_block_is_an_error() -> None:
    with pytest.raises(InputError, match=r"plugin 'tinny', blocked by --no-plugin, is not .*'tiny'"):
        Registry.discover(blocked=["tinny"], environment={})
    with pytest.raises(InputError, match="blocked by TUTELAGE_NO_PLUGINS, is not installed"):
        Registry.discover(environment={"TUTELAGE_NO_PLUGINS": "tinny"})


# Aliases


class Renamed(Echo):
    """A valid plugin with the alias ``former``."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return attrs.evolve(super().describe(), aliases=("former",))


@pytest.fixture
def renamed() -> Registry:
    made = Registry.empty()
    made.register(Renamed(), "current")
    return made


def aliased(*aliases: str) -> str:
    return (
        f"{SOUND}from tutelage.plugin_info import PluginInfo\n"
        f"@hookimpl\ndef describe(): return PluginInfo('Sound.', aliases={aliases!r})\n"
    )


def test_every_lookup_by_name_accepts_an_alias(renamed: Registry) -> None:
    assert renamed.name_of("former") == renamed.name_of("current") == "current"
    assert renamed.name_of("microsoft/phi-2") == "microsoft/phi-2"
    assert renamed.info("former") is renamed.info("current")
    assert renamed.label("former") == "plugin 'current' (registered manually)"
    assert renamed.hooks("former") == ("describe", "demonstrate")
    assert renamed.find("models", "former/loud") == NamedModel("loud-1")
    assert renamed.find("rubrics", "former/short") == Rubric("short")
    assert renamed.offered("models") == {"current/loud": NamedModel("loud-1")}
    assert renamed.names() == ["current"]
    [status] = renamed.statuses()
    assert (status.name, status.aliases, status.as_json()["aliases"]) == ("current", ("former",), ["former"])
    with pytest.raises(PluginError, match=r"plugin 'current' .* does not implement 'judge'"):
        renamed.require("former", "judge")
    with pytest.raises(InputError, match=r"plugin 'current' .* has no prompt set 'former/fw'"):
        renamed.find("prompt_sets", "former/fw")
    renamed.unregister("former")
    assert renamed.statuses() == []


def test_a_hook_call_by_alias_reaches_only_that_plugin(renamed: Registry) -> None:
    class Other(Echo):
        @hookimpl
        def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
            raise AssertionError("another plugin was called")

    renamed.register(Other(), "other")
    arguments = {"model": Model("former"), "prompts": [Prompt("x")], "sampling": None, "context": None}
    [demonstration] = renamed.caller("former", "demonstrate")(**arguments)
    assert demonstration.text == "x"


def test_a_name_or_an_alias_that_is_taken_is_refused_and_both_plugins_are_named(renamed: Registry) -> None:
    taken = "plugin 'current' (registered manually) and plugin {} (registered manually) both have the name or alias {}"
    for plugin, name, shared in ((Echo(), "former", "former"), (Renamed(), "another", "former")):
        with pytest.raises(PluginError) as caught:
            renamed.register(plugin, name)
        assert taken.format(repr(name), repr(shared)) in str(caught.value)
    with pytest.raises(PluginError, match="the name 'current' is taken"):
        renamed.register(Echo(), "current")
    assert renamed.names() == ["current"]

    first = Registry.empty()
    first.register(Echo(), "former")
    with pytest.raises(PluginError, match="both have the name or alias 'former'"):
        first.register(Renamed(), "current")
    assert first.name_of("former") == "former"


def test_of_two_distributions_with_the_same_alias_the_second_is_a_clash_that_names_both(site: Path) -> None:
    distribution(site, "first-one", "abel", aliased("elder"))
    distribution(site, "second-one", "cain", aliased("elder"))
    registry = Registry.discover(environment={})
    statuses = {status.name: status for status in registry.statuses()}
    assert statuses["abel"].status == "ok"
    assert (statuses["cain"].status, statuses["cain"].error) == (
        "clash",
        "plugin 'abel' (first-one 1.0) and plugin 'cain' (second-one 1.0) both have the name or alias 'elder'; "
        "only 'abel' is loaded: uninstall or rename the other",
    )
    assert registry.name_of("elder") == "abel"


def test_tutelages_own_plugin_keeps_its_alias_and_the_other_is_not_even_imported(site: Path) -> None:
    distribution(site, "shadowing-one", "phi2", "raise SystemExit")
    distribution(site, "grasping-one", "another", aliased("phi2"))
    registry = Registry.discover(environment={})
    refused = {status.name: status for status in registry.statuses() if status.status != "ok"}
    assert {name: status.status for name, status in refused.items()} == {"another": "clash", "phi2": "clash"}
    assert "shadowing-one 1.0" in str(refused["phi2"].error) and "(tutelage " in str(refused["phi2"].error)
    assert "shadowing_one" not in sys.modules
    assert registry.name_of("phi2") == "transformers"
    registry.require("phi2", "train_step")


def test_an_alias_does_not_hide_a_plugin_of_that_name_that_cannot_be_used(site: Path) -> None:
    distribution(site, "broken-one", "gone", "1 / 0")
    distribution(site, "renamed-one", "heir", aliased("gone"))
    registry = Registry.discover(environment={})
    with pytest.raises(PluginError, match=r"'gone' \(broken-one 1.0\) cannot be used: ZeroDivisionError"):
        registry.info("gone")
    assert registry.info("heir").aliases == ("gone",)


def test_a_plugin_can_be_blocked_by_its_alias_and_the_error_for_either_name_gives_the_reason(site: Path) -> None:
    distribution(site, "blocked-one", "heir", aliased("elder"))
    for registry in (
        Registry.discover(["elder"], environment={}),
        Registry.discover(environment={"TUTELAGE_NO_PLUGINS": "elder"}),
    ):
        assert "heir" not in registry.names()
        for name in ("heir", "elder"):
            with pytest.raises(PluginError, match=r"'heir' \(blocked-one 1.0\) cannot be used: blocked by"):
                registry.info(name)


# Validity of a plugin


def test_every_problem_of_a_plugins_hooks_is_named_at_once() -> None:
    class Wrong:
        @hookimpl
        def demonstrate(self, prompt: object) -> None: ...

        @hookimpl
        def judge(self, *items: object, rubric: object, **rest: object) -> None: ...

        @hookimpl
        def evalute(self) -> None: ...

        @hookimpl(wrapper=True)
        def train_step(self) -> None: ...

    problems = refused(Wrong()).split("; ")
    assert problems == [
        "demonstrate: there is no argument 'prompt'",
        "did you mean 'prompts'?",
        "there is no hook 'evalute'",
        "did you mean 'evaluate'?",
        "judge: argument *items: 'object' is never passed: name each argument that is needed",
        "judge: argument rubric: 'object' is never passed: name each argument that is needed",
        "judge: argument **rest: 'object' is never passed: name each argument that is needed",
        "train_step: a wrapper must yield exactly once",
    ]


def test_an_unknown_hook_that_is_marked_as_optional_is_ignored() -> None:
    class Ahead(Echo):
        @hookimpl(optionalhook=True)
        def hook_of_a_later_version(self) -> None: ...

    registry = Registry.empty()
    registry.register(Ahead(), "ahead")
    assert registry.hooks("ahead") == ("describe", "demonstrate")


class Unmarked:
    def judge(self, items: object) -> None: ...

    def demonstrate(self, prompts: object) -> None: ...

    def check(self, path: str) -> None:
        """No hook: it has an argument of its own."""


def test_the_error_for_a_plugin_without_hooks_names_the_marker_and_the_functions() -> None:
    assert refused(object()) == "it implements no hook: mark its functions with @tutelage.hookimpl"
    assert refused(Unmarked()) == "it implements no hook: mark judge, demonstrate with @tutelage.hookimpl"


def test_the_error_for_a_hook_whose_mark_was_forgotten_names_the_mark() -> None:
    class Half(Unmarked):
        @hookimpl
        def demonstrate(self, prompts: object) -> None: ...

    registry = Registry.empty()
    registry.register(Half(), "half")
    with pytest.raises(PluginError) as found:
        registry.caller("half", "judge")
    assert str(found.value) == (
        "plugin 'half' (registered manually) does not implement 'judge', because its function of this name is not "
        "marked: put @tutelage.hookimpl above it"
    )
    with pytest.raises(PluginError, match="does not implement 'check'; installed plugins that do: none"):
        registry.caller("half", "check")


def test_a_stage_that_a_module_imports_is_no_hook_whose_mark_was_forgotten() -> None:
    module = ModuleType("importing")
    exec("from tutelage import hookimpl, judge\n@hookimpl\ndef demonstrate(prompts): ...", module.__dict__)
    assert unmarked_hooks(module) == ()
    exec("def judge(items): ...", module.__dict__)
    assert unmarked_hooks(module) == ("judge",)


@attrs.define
class Unhashable:
    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo("x")


@attrs.frozen
class Frozen(Unhashable):
    settings: dict[str, int] = attrs.field(factory=dict)


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [(Unhashable(), "unhashable type: 'Unhashable'"), (Frozen(), "unhashable type: 'dict'")],
    ids=["defined", "frozen"],
)
def test_an_object_that_pluggy_cannot_hold_is_refused_with_the_remedy(plugin: object, reason: str) -> None:
    assert refused(plugin) == (
        f"the {type(plugin).__name__} object is not hashable, as a plugin must be ({reason}): compare its objects by "
        "identity with eq=False, as in @attrs.define(eq=False) or @dataclass(eq=False), or make it a module"
    )


def test_a_class_in_place_of_an_object_is_refused_with_the_remedy() -> None:
    assert refused(Echo) == "Echo is a class; register an object of it: Echo()"


async def later(*items: object) -> None: ...


async def later_each(items: object) -> AsyncIterator[Judgement]:
    yield Judgement("a", 0, 1.0)


@pytest.mark.parametrize("function", [later_each, hookimpl(wrapper=True)(later_each)], ids=["hook", "wrapper"])
def test_an_async_hook_is_refused(function: Any) -> None:
    class Later:
        judge = staticmethod(hookimpl(function))

    assert refused(Later()) == "judge: an async function is never awaited; make it a plain function"


@pytest.mark.parametrize(
    ("info", "where"),
    [
        ({"pair_rules": {"late": later}}, "pair_rules['late']"),
        ({"pair_losses": {"late": PairLoss(later, "Late.")}}, "pair_losses['late']"),
        ({"prompt_sets": {"late": NamedSet(later)}}, "prompt_sets['late']"),  # type: ignore[arg-type]
        (
            {
                "pipelines": {
                    "late": Pipeline(
                        "x", (TransformStep("t", later, reads=("prompts",), makes="preferences"), TrainStep("t"))
                    )
                }
            },
            "pipelines['late']: TransformStep 't'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_async_function_of_a_description_is_refused(info: dict[str, Any], where: str) -> None:
    problem = refused(describing(PluginInfo("x", **info)))
    assert problem == f"describe(): {where}: an async function is never awaited; make it a plain function"


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ({"neutral_settings": ("lenght",)}, "neutral_settings: there is no 'lenght'; did you mean 'length'?"),
        ({"sampling": ("topk",)}, "sampling: there is no 'topk'; did you mean 'top_k'?"),
        ({"scores": ("expcted",)}, "scores: there is no 'expcted'; did you mean 'expected'?"),
    ],
)
def test_a_description_that_names_what_does_not_exist_is_refused(info: dict[str, Any], problem: str) -> None:
    @attrs.frozen
    class Settings:
        length: int = 1

    assert refused(describing(PluginInfo("x", settings=Settings, **info))) == f"describe(): {problem}"


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a,b", "a b"])
def test_a_name_that_could_not_be_written_in_a_recipe_is_refused(name: str) -> None:
    assert "cannot be a plugin's name" in refused(Echo(), name)


def describing(answer: object) -> object:
    class Described:
        @hookimpl
        def describe(self) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

    return Described()


@attrs.frozen
class Unreadable:
    value: NotImportedAnywhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("help", "describe() must return a PluginInfo, not str"),
        (RuntimeError("no disk"), "describe() raised RuntimeError: no disk"),
        (PluginInfo("x", settings=dict), "settings must be an attrs class, not <class 'dict'>"),
        (PluginInfo("x", settings=Unreadable), "the annotations of Unreadable cannot be read"),
        (PluginInfo("x", models={"a": "b"}), "models['a'] must be a NamedModel, not str"),  # type: ignore[dict-item]
        (PluginInfo("x", environment=("KEY",)), "must hold EnvironmentVariable, not str"),  # type: ignore[arg-type]
        (PluginInfo("x", aliases="abc"), "aliases must be a tuple, not 'abc'"),  # type: ignore[arg-type]
        (PluginInfo("x", aliases=("a/b",)), "aliases: 'a/b' cannot be a plugin's name"),
        (PluginInfo("x", pair_rules={"a": 1}), "pair_rules['a'] must be callable"),  # type: ignore[dict-item]
    ],
)
def test_an_invalid_description_is_refused(answer: object, message: str) -> None:
    assert message in refused(describing(answer))


def test_a_name_or_an_object_can_be_registered_only_once(registry: Registry) -> None:
    with pytest.raises(PluginError, match="the name 'echo' is taken"):
        registry.register(Echo(), "echo")
    plugin = Echo()
    registry.register(plugin, "one")
    with pytest.raises(PluginError, match="the same object as plugin 'one'"):
        registry.register(plugin, "two")


def test_a_plugin_can_be_unregistered(registry: Registry) -> None:
    registry.unregister("echo")
    assert registry.statuses() == []
    registry.register(Echo(), "echo")
    with pytest.raises(PluginError, match="'other' is not installed"):
        registry.unregister("other")


# Queries of a registry


def test_a_status_lists_the_hooks_that_a_plugin_implements_and_wraps(registry: Registry) -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def judge(self) -> Any:
            return (yield)

    registry.register(Wrapper(), "wrapper")
    echo, wrapper = registry.statuses()
    assert echo.as_json() == {
        "name": "echo",
        "aliases": [],
        "distribution": None,
        "version": None,
        "status": "ok",
        "hooks": ["describe", "demonstrate"],
        "error": None,
    }
    assert wrapper.hooks == ("judge (wrapper)",)
    assert registry.wrappers("judge") == ["wrapper"]
    assert registry.names("judge") == []


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        (("jugde",), "describe(): wrapped_roles: no role 'jugde'; did you mean 'judge'?"),
        ("judge", "describe(): wrapped_roles must be a tuple, not 'judge'"),
    ],
)
def test_a_wrapper_of_a_role_that_does_not_exist_is_refused(roles: Any, problem: str) -> None:
    class Wrapper:
        @hookimpl
        def describe(self) -> PluginInfo:
            return PluginInfo("Wraps.", wrapped_roles=roles)

        @hookimpl(wrapper=True)
        def judge(self) -> Any:
            return (yield)

    assert refused(Wrapper()) == problem


def test_a_requirement_that_is_met_raises_nothing(registry: Registry) -> None:
    assert registry.require("echo", "demonstrate") is None  # type: ignore[func-returns-value]


def test_the_error_for_a_missing_plugin_names_the_nearest_plugin(registry: Registry) -> None:
    with pytest.raises(PluginError, match="plugin 'eco' is not installed; did you mean 'echo'"):
        registry.require("eco", "demonstrate")


def test_the_error_for_a_hook_that_is_not_implemented_names_the_plugins_that_implement_it(registry: Registry) -> None:
    class Judge:
        @hookimpl
        def judge(self) -> None: ...

    registry.register(Judge(), "critic")
    with pytest.raises(PluginError) as caught:
        registry.require("echo", "judge")
    assert str(caught.value) == (
        "plugin 'echo' (registered manually) does not implement 'judge'; installed plugins that do: critic"
    )


def test_requiring_a_blocked_or_broken_plugin_is_an_error_with_the_reason(site: Path) -> None:
    distribution(site, "broken-one", "broken", "1 / 0")
    registry = Registry.discover(blocked=["tiny"], environment={})
    with pytest.raises(PluginError, match=r"'tiny' \(tutelage .*\) cannot be used: blocked by --no-plugin"):
        registry.require("tiny", "judge")
    with pytest.raises(PluginError, match=r"'broken' \(broken-one 1.0\) cannot be used: ZeroDivisionError"):
        registry.info("broken")


class Answering:
    """Answers with its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def generate_candidates(self, prompts: Iterable[Prompt]) -> list[Candidate]:
        return [Candidate(prompt.id, 0, self.name) for prompt in prompts]


class Loud:
    """Only wraps the hook of the plugin that answers."""

    @hookimpl(wrapper=True)
    def generate_candidates(self, n: int) -> Any:
        candidates = yield
        return [attrs.evolve(candidate, text=candidate.text.upper() * n) for candidate in candidates]


def test_a_hook_call_reaches_only_the_bound_plugin_and_every_wrapper() -> None:
    registry = Registry.empty()
    registry.register(Answering("first"), "first")
    registry.register(Loud(), "loud")
    registry.register(Answering("second"), "second")
    arguments = {"model": Model("first"), "prompts": [Prompt("x")], "n": 2, "sampling": None, "context": None}
    for name in ("first", "second"):
        (candidate,) = registry.caller(name, "generate_candidates")(**arguments)
        assert candidate.text == name.upper() * 2


def test_a_caller_for_a_hook_that_a_plugin_only_wraps_is_refused() -> None:
    registry = Registry.empty()
    registry.register(Loud(), "loud")
    with pytest.raises(PluginError, match="does not implement 'generate_candidates'; installed plugins that do: none"):
        registry.caller("loud", "generate_candidates")


def test_what_a_plugin_offers_is_found_by_its_qualified_name(registry: Registry) -> None:
    assert registry.find("models", "echo/loud") == NamedModel("loud-1")
    prompts = registry.find("prompt_sets", "echo/few")
    assert prompts is not None and list(prompts.load(1, 0)) == ["a"]
    assert registry.find("rubrics", "echo/short") == Rubric("short")
    rule: object = registry.find("pair_rules", "echo/any")
    assert rule is sorted
    assert registry.offered("models") == {"echo/loud": NamedModel("loud-1")}


@pytest.mark.parametrize("text", ["microsoft/phi-2", "loud", "/data/prompts.jsonl", ""])
def test_a_text_that_names_no_plugin_is_not_found(registry: Registry, text: str) -> None:
    assert registry.find("models", text) is None
    assert registry.find("example_sets", text) is None
    assert registry.find("rated_sets", text) is None


def test_the_error_for_a_name_that_a_plugin_does_not_offer_gives_the_nearest_name(registry: Registry) -> None:
    with pytest.raises(InputError) as caught:
        registry.find("prompt_sets", "echo/fw")
    assert str(caught.value) == (
        "plugin 'echo' (registered manually) has no prompt set 'echo/fw'; did you mean 'echo/few'?"
    )
