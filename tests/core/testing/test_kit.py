"""``check_plugin`` reports violations of the contract, and accepts a correct plugin."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve, field, frozen

from tutelage.context import Context
from tutelage.errors import InputError, PluginError
from tutelage.hookspecs import hookimpl
from tutelage.plugin_info import Finding, NamedSet, PluginInfo, RunNeeds, TokenCounts
from tutelage.plugins import functions
from tutelage.plugins.inspection import HOOKS
from tutelage.plugins.registry import Registry
from tutelage.preferences.expected_scores import expected_judgement
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.preferences.pairing import RULES, Group, PairOptions, Proposal, ScoredAnswer
from tutelage.records import (
    Candidate,
    Demonstration,
    JudgeItem,
    Judgement,
    Model,
    Outcome,
    Prompt,
    Rubric,
    Sampling,
    Scores,
)
from tutelage.services.requests import Endpoint, Reply, Request
from tutelage.testing import PROMPTS, check_plugin
from tutelage.testing.promises import PROMISES

numbers = count()


@frozen
class Settings:
    volume: int = field(default=1, metadata={"help": "How loud."})


@frozen
class Undocumented:
    volume: int = 1


class Sound:
    """Fulfils the contract. Each subclass violates one requirement."""

    info = PluginInfo("Says it loud.", settings=Settings)

    @hookimpl
    def describe(self) -> PluginInfo:
        return self.info

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        for prompt in prompts:
            for index in range(n):
                yield self.answer(Candidate(prompt.id, index, prompt.text.upper()))

    def answer(self, candidate: Candidate) -> Candidate:
        return candidate

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        for item in items:
            for sample in range(samples):
                yield Judgement(item.id, sample, 5.0 if item.answer else 0.0)

    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        (output / "weights").write_text("0.1")
        context.expect(1)
        context.log({"step": 1, "loss": 0.5})
        context.advance(1)
        return evolve(model, name=str(output))

    @hookimpl
    def release(self, model: Model) -> None: ...


def problems(plugin: object, **options: Any) -> dict[str, str]:
    """Hook and problems of every failed check."""
    found: dict[str, str] = {}
    for check in check_plugin(plugin, **options).problems:
        found[check.hook] = "\n".join(filter(None, (found.get(check.hook), check.problem)))
    return found


def test_a_correct_plugin_passes_every_check_and_the_report_lists_them() -> None:
    report = check_plugin(Sound())
    report.raise_for_problems()
    assert {check.hook for check in report.checks} == {
        "describe",
        "generate_candidates",
        "judge",
        "train_step",
        "release",
    }
    assert str(report).startswith("plugin 'Sound' (registered manually): all checks passed\n  ok")


def test_every_hook_has_at_least_one_check() -> None:
    assert set(PROMISES) == set(HOOKS)
    assert all(PROMISES.values())
    assert all(promise.__doc__ for promises in PROMISES.values() for promise in promises)


class Shifting(Sound):
    def answer(self, candidate: Candidate) -> Candidate:
        return evolve(candidate, text=str(next(numbers)))


class Mute(Sound):
    def answer(self, candidate: Candidate) -> Candidate:
        return evolve(candidate, text="", outcome=Outcome.REFUSED)


class Unwritable(Sound):
    def answer(self, candidate: Candidate) -> Candidate:
        return evolve(candidate, tokens=b"8")  # type: ignore[arg-type]


class Greedy(Sound):
    """Reads its whole input before the first result, which a service must not do."""

    info = evolve(Sound.info, item_by_item=True)

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        yield from [Candidate(prompt.id, index, "x") for prompt in prompts for index in range(n)]


class Spending(Sound):
    """Calls a service without saying so: a killed run would pay again."""

    service = Endpoint("spending", "http://127.0.0.1:9", "m")

    @hookimpl
    def generate_candidates(  # type: ignore[override]  # a hook may take more of the arguments
        self, model: Model, prompts: Iterable[Prompt], n: int, context: Context
    ) -> Iterator[Candidate]:
        requests = (Request((prompt.id, index), {"i": index}) for prompt in prompts for index in range(n))
        for answer in context.caller.map(requests, lambda body, timeout: Reply("x"), self.service):
            yield Candidate(*answer.about, answer.reply.text)


class Declared(Spending):
    @hookimpl
    def endpoint(self) -> Endpoint:
        return self.service


class DeclaredFalse(Declared):
    info = PluginInfo("Says it loud.", settings=Settings, item_by_item=False)


class DeclaredByField(Spending):
    info = evolve(Sound.info, item_by_item=True)


class Stubborn(Sound):
    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        for prompt in prompts:
            for index in range(n):
                try:
                    yield Candidate(prompt.id, index, "x")
                except GeneratorExit:
                    yield Candidate(prompt.id, index, "one more")


class Eager(Sound):
    """Yields a judgement of an unknown item if the input is empty."""

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        asked = list(items)
        for item in asked or [JudgeItem("invented", "", "")]:
            yield from (Judgement(item.id, sample, 1.0) for sample in range(samples))


class Untidy(Sound):
    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        output.with_name("cache.bin").write_text("left behind")
        return Sound.train_step(self, model, output, context)


class Silent(Sound):
    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        (output / "weights").write_text("0.1")
        return evolve(model, name=str(output))


class Unloadable(Sound):
    """Cannot load the checkpoint that it trained."""

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        if model.name:
            raise FileNotFoundError(f"{model.name}/tokenizer.json")
        yield from (Candidate(prompt.id, index, "x") for prompt in prompts for index in range(n))


class Clinging(Sound):
    @hookimpl
    def release(self, model: Model) -> None:
        raise KeyError(model.name)


@pytest.mark.parametrize(
    ("plugin", "hook", "problem"),
    [
        (Shifting(), "generate_candidates", "differs between two calls"),
        (Mute(), "generate_candidates", "is REFUSED and its detail is empty"),
        (Unwritable(), "generate_candidates", "not JSON serializable"),
        (Greedy(), "generate_candidates", "it read all 500 prompts before its first result"),
        (
            Spending(),
            "generate_candidates",
            "8 answers came through context.caller, but PluginInfo has no",
        ),
        (Stubborn(), "generate_candidates", "generator ignored GeneratorExit"),
        (Eager(), "judge", "answers 'invented', which was not asked"),
        (Untidy(), "train_step", "it wrote or changed a file outside its output folder"),
        (Silent(), "train_step", "it logged no row with a step"),
        (Unloadable(), "train_step", "tokenizer.json"),
        (Clinging(), "release", "KeyError"),
    ],
)
def test_a_violation_is_reported_for_its_own_hook_only(plugin: object, hook: str, problem: str) -> None:
    found = problems(plugin)
    assert list(found) == [hook]
    assert problem in found[hook]


@pytest.mark.parametrize("plugin", [Declared(), DeclaredFalse(), DeclaredByField()])
def test_a_plugin_with_an_endpoint_is_item_by_item_whether_it_says_so_or_not(plugin: Sound) -> None:
    registry = Registry.empty()
    registry.register(plugin, "declared")
    assert registry.info("declared").item_by_item
    check_plugin(plugin).raise_for_problems()


class Expecting(Sound):
    """Gives expected scores: a subclass says how."""

    info = evolve(Sound.info, scores=("expected",))

    def expected(self, item: JudgeItem, rubric: Rubric) -> Judgement:
        return expected_judgement(item.id, (0, 0, 0.2, 0.6, 0, 0), rubric)

    @hookimpl
    def judge(  # type: ignore[override]  # a hook may take more of the arguments
        self, items: Iterable[JudgeItem], rubric: Rubric, samples: int, score: Scores
    ) -> Iterator[Judgement]:
        if score == "expected":
            yield from (self.expected(item, rubric) for item in items)
        else:
            yield from super().judge(items, samples)


class MostProbable(Expecting):
    def expected(self, item: JudgeItem, rubric: Rubric) -> Judgement:
        return evolve(super().expected(item, rubric), score=3.0)


class Drifting(Expecting):
    def expected(self, item: JudgeItem, rubric: Rubric) -> Judgement:
        return expected_judgement(item.id, (0, 0, 0.2, 0.7 - next(numbers) % 100 / 1e3, 0, 0), rubric)


class Plain(Expecting):
    def expected(self, item: JudgeItem, rubric: Rubric) -> Judgement:
        return Judgement(item.id, 0, 3.0)


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (Expecting(), None),
        (MostProbable(), "is 3, and by its probabilities it is 2.75"),
        (Drifting(), "differs between two calls"),
        (Plain(), "has no probabilities"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Sound) else "",
)
def test_expected_scores_that_are_not_the_mean_of_the_scores_are_found(plugin: Sound, problem: str | None) -> None:
    found = problems(plugin)
    assert found == {} if problem is None else problem in found["judge"]


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (lambda objective: ["lora: missing"], "check_objective refuses the default Sft: ['lora: missing']"),
        (
            lambda objective: ["temperature: 1"] if objective.epochs < 0 else [],
            "'temperature: 1', which does not begin with a key of the objective",
        ),
        (lambda objective: [7] if objective.epochs < 0 else [], "gave 7, which is not of the class str"),
    ],
)
def test_a_check_of_objectives_that_misleads_is_found(check: Any, problem: str) -> None:
    plugin = Sound()
    plugin.check_objective = hookimpl(check)  # type: ignore[attr-defined]
    found = problems(plugin)
    assert list(found) == ["check_objective"]
    assert problem in found["check_objective"]


@pytest.mark.parametrize("declared", [True, False])
def test_without_an_endpoint_the_field_counts(declared: bool) -> None:
    assert PluginInfo("x", item_by_item=declared).item_by_item is declared


def meddling(needs: RunNeeds) -> list[Finding]:
    if needs.directory is not None:
        needs.directory.mkdir(exist_ok=True)
    return []


def offering(kind: str, items: Any) -> PluginInfo:
    changes: dict[str, Any] = {kind: {"some": NamedSet(items)}}
    return evolve(Sound.info, **changes)


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (PluginInfo(""), "help is ''"),
        (PluginInfo("two\nlines"), "help is"),
        (
            PluginInfo("x", settings=Undocumented),
            "settings without a help text (the string below the field, or metadata help): volume",
        ),
        (offering("prompt_sets", lambda count, seed: ["a", "a"]), "prompt_sets['some'] has duplicates"),
        (offering("prompt_sets", lambda count, seed: list("abcdefgh")), "returned 8 items for count 5"),
        (offering("prompt_sets", lambda count, seed: [str(next(numbers))]), "differs between two calls"),
    ],
)
def test_a_description_that_misleads_is_found(info: PluginInfo, problem: str) -> None:
    plugin = Sound()
    plugin.info = info
    found = problems(plugin)
    assert list(found) == ["describe"]
    assert problem in found["describe"]


def module(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Write and import the entry module of a plugin."""
    import importlib

    monkeypatch.syspath_prepend(str(folder))
    header = "from tutelage.hookspecs import hookimpl\nfrom tutelage.plugin_info import PluginInfo\n"
    body = "@hookimpl\ndef describe():\n    return PluginInfo('x')\n"
    (folder / f"{name}.py").write_text(f"{code}\n{header}{body}")
    return importlib.import_module(name)


def test_a_heavy_import_at_start_up_is_found_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = module(tmp_path, "heavy_plugin", "import numpy", monkeypatch)
    light = module(tmp_path, "light_plugin", "def late():\n    import numpy", monkeypatch)
    assert "importing heavy_plugin imports numpy" in problems(heavy)["describe"]
    assert problems(light) == {}


def test_a_hook_argument_with_a_default_is_refused_at_loading() -> None:
    class Defaulted:
        @hookimpl
        def judge(self, items: Iterable[JudgeItem], samples: int = 1) -> None: ...

    assert "argument 'samples' has a default" in problems(Defaulted())["loading"]


def test_a_plugin_that_is_not_installed_is_reported_not_raised() -> None:
    report = check_plugin("no-such-plugin")
    assert "is not installed" in str(report)
    with pytest.raises(PluginError, match="1 of 1 checks failed"):
        report.raise_for_problems()


class Incomplete(Sound):
    """Leaves out the first judgement."""

    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        yield from list(super().judge(items, samples))[1:]


def test_a_fault_is_reported_once_with_the_checks_that_it_stopped() -> None:
    report = check_plugin(Incomplete())
    assert [check.promise.partition(",")[0] for check in report.problems] == ["yields every result exactly once"]
    lines = str(report).splitlines()
    assert lines[0].endswith("1 of 33 checks failed, and 4 stopped at the same problem")
    assert str(report).count("ended without answering 'item-0' number 0") == 1
    assert [line.partition(",")[0] for line in lines if line.startswith("  stopped")] == [
        "  stopped  judge: results can be written as JSON",
        "  stopped  judge: yields the same results for the same arguments and the same seed (services are exempt)",
        "  stopped  judge: can be closed before its last result without an error",
        "  stopped  judge: a plugin that calls a service has an endpoint or is item_by_item",
    ]


def test_wrong_settings_stop_the_checks_of_every_hook_and_are_reported_once() -> None:
    report = check_plugin(Sound(), model=Model("Sound", settings={"volum": 1}))
    assert [check.hook for check in report.problems] == ["generate_candidates"]
    assert {check.hook for check in report.checks if check.stopped} == {"generate_candidates", "judge", "train_step"}


class Forgetting(Sound):
    """Gives other results in each call, of two hooks."""

    def answer(self, candidate: Candidate) -> Candidate:
        return evolve(candidate, text=str(next(numbers)))

    @hookimpl
    def demonstrate(self, prompts: Iterable[Prompt]) -> Iterator[Demonstration]:
        yield from (Demonstration(prompt.id, str(next(numbers))) for prompt in prompts)


def test_the_same_requirement_broken_by_two_hooks_is_two_problems() -> None:
    assert problems(Forgetting()).keys() == {"generate_candidates", "demonstrate"}


def test_what_is_skipped_is_not_called() -> None:
    report = check_plugin(Clinging(), skip=("release", "train_step"))
    report.raise_for_problems()
    assert {check.hook for check in report.checks} == {"describe", "generate_candidates", "judge"}


def test_the_model_and_the_prompts_of_the_author_are_used() -> None:
    seen: list[tuple[Model, str]] = []

    class Watching:
        @hookimpl
        def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
            for prompt in prompts:
                seen.append((model, prompt.text))
                yield from (Candidate(prompt.id, index, "x") for index in range(n))

    problems(Watching(), model=Model("anything", "weights"), prompts=["Mine."])
    assert set(map(repr, seen)) == {repr((Model("Watching", "weights"), "Mine."))}


TESTS_OF_AN_AUTHOR = """
import pytest
from tutelage.errors import PluginError
from tutelage.hookspecs import hookimpl

class Plugin:
    @hookimpl
    def release(self, model): ...

def test_a_plugin_is_registered(register_plugin):
    assert register_plugin(Plugin(), "mine").names() == ["mine"]

def test_and_gone_in_the_next_test(plugin_registry):
    assert plugin_registry.names() == []
"""


def test_the_fixtures_register_on_a_fresh_registry_and_take_the_plugin_out_again(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tutelage.testing.fixtures"]\n')
    (tmp_path / "test_mine.py").write_text(TESTS_OF_AN_AUTHOR)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("hook", "function", "problem"),
    [
        ("check_run", lambda: ["bad"], "gave 'bad', which is not of the class Finding"),
        ("check_run", lambda: [Finding("disk", False, " ")], "is empty"),
        ("check_run", lambda: [Finding("disk", "no", "full")], "is not True, False or None"),  # type: ignore[arg-type]
        ("check_run", lambda: 1 / 0, "ZeroDivisionError"),
        ("check_run", meddling, "created the run's folder"),
        ("check", lambda: "all is well", "it must return or yield objects of the class Finding"),
        ("check_prompts", lambda: 7, "gave 7, which is not of the class str"),
        ("endpoint", lambda: "https://x.invalid", "which is not of the class Endpoint"),
        ("endpoint", lambda: Endpoint("x", "", "m"), "has no address or no model"),
        ("endpoint", lambda: Endpoint("x", "https://x.invalid", f"m{next(numbers)}"), "differs between two calls"),
        ("count_tokens", lambda rows: TokenCounts((1,) * (len(rows) - 1), 8), "it must return one number per row"),
        ("count_tokens", lambda rows: TokenCounts((0,) * len(rows), 8), "each row has a prompt and an answer"),
        ("convert", lambda checkpoint: (checkpoint / "x").write_text(""), "wrote into the folder of the checkpoint"),
        ("devices", lambda: 0, "returned 0; it must be at least 1"),
        ("requests_at_once", lambda: 0, "returned 0; it must be at least 1"),
    ],
)
def test_a_helper_hook_that_breaks_its_promise_is_found(hook: str, function: Any, problem: str) -> None:
    plugin = Sound()
    setattr(plugin, hook, hookimpl(function))
    found = problems(plugin)
    assert list(found) == [hook]
    assert problem in found[hook]


class Wordy(Sound):
    def answer(self, candidate: Candidate) -> Candidate:
        return evolve(candidate, tokens=17)


class Rewriting(Sound):
    """Shows another text than the one that it returns."""

    @hookimpl
    def generate_candidates(  # type: ignore[override]  # a hook may take more of the arguments
        self, model: Model, prompts: Iterable[Prompt], n: int, context: Context
    ) -> Iterator[Candidate]:
        for prompt in prompts:
            if context.partial is not None:
                context.partial("draft")
            yield from (Candidate(prompt.id, index, "final") for index in range(n))


class Deaf(Sound):
    """Says that it applies ``top_k``, and draws from every token."""

    info = evolve(Sound.info, sampling=("top_k",))

    @hookimpl
    def generate_candidates(  # type: ignore[override]
        self, model: Model, prompts: Iterable[Prompt], n: int, sampling: Sampling
    ) -> Iterator[Candidate]:
        yield from (Candidate(prompt.id, index, f"token {sampling.seed}") for prompt in prompts for index in range(n))


class Offended(Sound):
    """Raises an exception if the user has asked to stop."""

    @hookimpl
    def judge(  # type: ignore[override]
        self, items: Iterable[JudgeItem], samples: int, context: Context
    ) -> Iterator[Judgement]:
        if context.cancelled():
            raise RuntimeError("how rude")
        yield from super().judge(items, samples)


class StubbornJudge(Sound):
    @hookimpl
    def judge(self, items: Iterable[JudgeItem], samples: int) -> Iterator[Judgement]:
        for judgement in super().judge(items, samples):
            try:
                yield judgement
            except GeneratorExit:
                raise OSError("the connection was cut") from None


class Unreported(Sound):
    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        return super().train_step(model, output, evolve(context, expect=lambda total: None))


class Miscounting(Sound):
    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        return super().train_step(model, output, evolve(context, advance=lambda steps: context.advance(2)))


class Hasty(Sound):
    """Returns an empty checkpoint if the user has asked to stop."""

    @hookimpl
    def generate_candidates(self, model: Model, prompts: Iterable[Prompt], n: int) -> Iterator[Candidate]:
        if model.name and not Path(model.name, "weights").read_text():
            raise ValueError("no weights")
        yield from super().generate_candidates(model, prompts, n)

    @hookimpl
    def train_step(self, model: Model, output: Path, context: Context) -> Model:
        trained = super().train_step(model, output, context)
        if context.cancelled():
            (output / "weights").write_text("")
        return trained


class HastyByPairs(Hasty):
    """Returns an empty checkpoint if the user has asked to stop, and trains by DPO only."""

    info = evolve(Sound.info, trains=("dpo",))

    @hookimpl
    def train_step(  # type: ignore[override]  # a hook may take more of the arguments
        self, model: Model, reference: Model | None, examples: Path, output: Path, context: Context
    ) -> Model:
        assert reference is not None
        assert "rejected" in examples.read_text()
        return super().train_step(model, output, context)


def test_a_cancelled_training_is_checked_with_an_objective_that_the_plugin_trains() -> None:
    report = check_plugin(HastyByPairs())
    assert [check.promise.partition(",")[0] for check in report.problems] == [
        "raises an exception if the user has asked to stop"
    ]
    assert "ValueError: no weights" in str(report.problems[0].problem)


class Forgetful(Sound):
    """Two functions lack the mark; one has the name of a hook and an argument of its own."""

    def demonstrate(self, prompts: Iterable[Prompt]) -> None: ...

    def evaluate(self, comparisons: object) -> None: ...

    def check(self, path: str) -> None: ...


def of_last(group: Group, options: PairOptions) -> Iterator[Proposal]:
    yield group.answers[-1], group.answers[0]


def at_random(group: Group, options: PairOptions) -> Iterator[Proposal]:
    yield f"reason {next(numbers)}"


def inventing(group: Group, options: PairOptions) -> Iterator[Proposal]:
    if len(group.answers) > 1:
        yield ScoredAnswer("x", "Invented."), group.answers[0]
    else:
        yield "too few"


def place(function: Any, line: int) -> str:
    """The place of a line of a function of this file, counted from its first line or decorator."""
    return f"(test_kit.py, line {function.__code__.co_firstlineno + line})"


PROMPT_ID = Prompt(PROMPTS[0]).id
RULE = f"pair rule 'Sound/rule' of plugin 'Sound' (registered manually), for the prompt {PROMPT_ID},"


@pytest.mark.parametrize(
    ("plugin", "hook", "problem"),
    [
        (Wordy(), "generate_candidates", f"'{PROMPT_ID}/0' has 17 tokens; the limit is 16"),
        (Rewriting(), "generate_candidates", "context.partial was called with ['draft'], and the text is 'final'"),
        (Deaf(), "generate_candidates", "with top_k=1 the answers differ between two seeds"),
        (
            Offended(),
            "judge",
            "StageError: hook 'judge' of plugin 'Offended' (registered manually) failed: RuntimeError: how rude "
            + place(Offended.judge, 5),
        ),
        (
            StubbornJudge(),
            "judge",
            "StageError: hook 'judge' of plugin 'StubbornJudge' (registered manually) failed: OSError: the connection "
            "was cut " + place(StubbornJudge.judge, 6),
        ),
        (Unreported(), "train_step", "it did not report its number of steps with context.expect"),
        (Miscounting(), "train_step", "it reported 2 of 1 steps with context.advance"),
        (
            Hasty(),
            "train_step",
            "StageError: hook 'generate_candidates' of plugin 'Hasty' (registered manually) failed: ValueError: no "
            "weights " + place(Hasty.generate_candidates, 3),
        ),
        (
            Forgetful(),
            "describe",
            "functions that are never called: demonstrate, evaluate; put @tutelage.hookimpl above them",
        ),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Sound) else "",
)
def test_the_message_of_a_broken_promise_names_the_fault(plugin: Sound, hook: str, problem: str) -> None:
    assert re.sub(r", model '[^']*',", "", problems(plugin)[hook]) == problem
    assert list(problems(plugin)) == [hook]


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        (
            {"pair_rules": {"rule": of_last}},
            f"StageError: {RULE} failed: IndexError: tuple index out of range {place(of_last, 1)}",
        ),
        (
            {"pair_rules": {"rule": at_random}},
            "pair_rules['rule'] differs between two calls, for answers with the scores []",
        ),
        (
            {"pair_rules": {"rule": inventing}},
            f"PluginError: {RULE} proposed 'Invented.' (x), which is no answer to the prompt; use the answers of the "
            "group",
        ),
        (
            {"rubrics": {"short": Rubric("short", "Rate this: {response}")}},
            "rubrics['short']: the template of rubric 'short' lacks the placeholder {prompt}; known: response; add it",
        ),
    ],
    ids=["raises", "differs", "invents", "rubric"],
)
def test_an_offer_that_fails_in_a_run_is_found(offered: dict[str, Any], problem: str) -> None:
    plugin = Sound()
    plugin.info = evolve(Sound.info, **offered)
    assert check_plugin(plugin).problems[0].problem == problem
    assert list(problems(plugin)) == ["describe"]


def test_the_built_in_pair_rules_and_rubrics_fulfil_the_contract() -> None:
    plugin = Sound()
    plugin.info = evolve(
        Sound.info, pair_rules=RULES, rubrics={one.name: one for one in (ADDITIVE_RUBRIC, PAIRWISE_RUBRIC)}
    )
    check_plugin(plugin, skip=("train_step",)).raise_for_problems()


def test_a_print_at_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_stdout(StringIO()):
        printing = module(tmp_path, "printing_plugin", "print('loading', 'it')", monkeypatch)
    assert problems(printing)["describe"] == (
        "importing printing_plugin prints 'loading it\\n': remove it, because it would be a part of the output of "
        "every command, such as `tutelage plan --json`"
    )


def distribution(folder: Path, *requires: str) -> None:
    """Install a distribution with the plugin ``ranged`` and these requirements."""
    metadata = folder / "ranged_plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", "Name: ranged-plugin", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requires)]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    (metadata / "entry_points.txt").write_text("[tutelage]\nranged = ranged_plugin\n")
    code = "from tutelage import PluginInfo, hookimpl\n@hookimpl\ndef describe():\n    return PluginInfo('x')\n"
    (folder / "ranged_plugin.py").write_text(code)


ADVICE = 'add dependencies = ["tutelage>=0.1"] to its pyproject.toml'


@pytest.mark.parametrize(
    ("requires", "problem"),
    [
        (["tutelage>=0.1", "attrs>=25.1", "no-such-library; extra == 'test'"], None),
        (["tutelage[transformers]~=0.1"], None),
        (["attrs"], f"ranged-plugin does not require tutelage: {ADVICE}"),
        (["tutelage<9"], f"ranged-plugin requires any version of tutelage: {ADVICE}"),
        (["tutelage>=9"], "ranged-plugin requires tutelage>=9, and tutelage 0.1.0 is installed"),
        (["tutelage>=0.1", "attrs<20"], f"ranged-plugin requires attrs<20, and attrs {version('attrs')} is installed"),
        (["tutelage>=0.1", "no-such-library"], "ranged-plugin requires no-such-library, which is not installed"),
    ],
    ids=str,
)
def test_the_versions_that_a_distribution_requires_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires: list[str], problem: str | None
) -> None:
    distribution(tmp_path, *requires)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check_plugin("ranged").problems == () if problem is None else problems("ranged") == {"describe": problem}


class Rounding:
    """Wraps every stage that judges, and returns the results or, in subclasses, something else."""

    @hookimpl(wrapper=True)
    def judge(self) -> Any:
        return self.changed((yield))

    def changed(self, results: Iterator[Judgement]) -> Any:
        return (evolve(one, score=one.score and round(one.score)) for one in results)


class Swallowing(Rounding):
    def changed(self, results: Iterator[Judgement]) -> Any:
        return None


class Dropping(Rounding):
    def changed(self, results: Iterator[Judgement]) -> Any:
        return (one for one in results if one.item_id != "item-1")


def test_a_wrapper_is_checked_around_a_plugin_that_fulfils_the_contract() -> None:
    report = check_plugin(Rounding())
    report.raise_for_problems()
    assert {check.hook for check in report.checks} == {"judge (wrapper)"}
    label = "hook 'judge' of plugin 'reference-of-the-kit' (registered manually), wrapped by {!r}"
    for plugin, problem in (
        (Swallowing(), "returned None; it must yield its results (a wrapper must return the result of its yield)"),
        (
            Dropping(),
            "ended without answering 'item-1' number 0, 'item-1' number 1; each needs 2 results, with the numbers "
            "0 to 1",
        ),
    ):
        first = check_plugin(plugin).problems[0]
        wrapped = label.format(type(plugin).__name__)
        assert (first.hook, first.problem) == ("judge (wrapper)", f"PluginError: {wrapped}, {problem}")


class OfHelpers:
    """Wraps hooks that yield no results, each with a fault."""

    @hookimpl(wrapper=True)
    def release(self) -> Any:
        yield
        raise RuntimeError("no memory")

    @hookimpl(wrapper=True)
    def count_tokens(self) -> Any:
        counts = yield
        return evolve(counts, tokens=counts.tokens[1:])

    @hookimpl(wrapper=True)
    def devices(self) -> Any:
        return (yield) - 1

    @hookimpl(wrapper=True)
    def requests_at_once(self) -> Any:
        return (yield) > 0


def test_wrappers_of_hooks_that_yield_no_results_are_checked_too() -> None:
    found = {check.hook.removesuffix(" (wrapper)"): check.problem for check in check_plugin(OfHelpers()).problems}
    expected = {
        "release": "failed in 'OfHelpers': RuntimeError: no memory",
        "count_tokens": "counted 3 of 4 rows; it must return one number per row",
        "devices": "returned 0; it must be at least 1",
        "requests_at_once": "gave True, which is not of the class int",
    }
    assert found.keys() == expected.keys()
    for hook, problem in expected.items():
        assert problem in str(found[hook]), found[hook]


def test_settings_that_a_wrapper_cannot_get_are_found() -> None:
    class OfDevices:
        @hookimpl
        def describe(self) -> PluginInfo:
            return Sound.info

        @hookimpl(wrapper=True)
        def devices(self) -> Any:
            return (yield)

    class OfJudges(OfDevices):
        @hookimpl(wrapper=True)
        def judge(self) -> Any:
            return (yield)

    assert problems(OfDevices()) == {
        "describe": "it has settings, and its wrappers of devices get none: only those of generate_candidates, judge, "
        "demonstrate, train_step, evaluate have context.wrapper_settings"
    }
    assert problems(OfJudges()) == {}


def test_a_plugin_of_functions_has_no_entry_module_to_import() -> None:
    made = functions.plugin(info=PluginInfo("Likes long answers."), judge=lambda answer: min(len(answer), 5))
    check_plugin(made).raise_for_problems()


def test_an_alias_names_the_plugin_and_its_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "attrs")
    code = (tmp_path / "ranged_plugin.py").read_text().replace("'x'", "'x', aliases=('span',)")
    (tmp_path / "ranged_plugin.py").write_text("print('loaded')\n" + code)
    monkeypatch.setitem(sys.modules, "ranged_plugin", ModuleType("of_another_test"))
    monkeypatch.delitem(sys.modules, "ranged_plugin")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check_plugin("span").problems == check_plugin("ranged").problems
    assert len(check_plugin("span").problems) == 2


@pytest.mark.parametrize("prompts", ["Name a colour.", ()])
def test_prompts_are_a_list_of_texts(prompts: Any) -> None:
    with pytest.raises(InputError, match=r"prompts is .*; it must be a list of at least one text"):
        check_plugin(Sound(), prompts=prompts)
