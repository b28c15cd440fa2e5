"""Tests for every plugin that calls an API, with the vendors' real SDKs and local servers."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tutelage.context import Context
from tutelage.errors import BudgetError, InputError, PluginError, StageError
from tutelage.files.settings import structure
from tutelage.installation import install_command
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.preferences.score_parsing import parse_score
from tutelage.records import Comparison, JudgeItem, Model, Outcome, Prompt, Sampling
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.prices import Price
from tutelage.services.requests import Limits
from tutelage.testing import check_plugin

CANARY = "sk-canary-0123456789abcdef"
LIMITS = Limits(in_flight=16, attempts=12, attempt_seconds=1.0, first_wait=0.02)
MODELS = {"openai": "gpt-test", "gemini": "gemini-test"}
SAMPLING = Sampling(max_new_tokens=64)
PROMPTS = [Prompt(f"Name {number} things.") for number in range(6)]
ITEMS = [JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(150)]

StartServer = Callable[..., Any]


@pytest.fixture(params=["openai", "gemini"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, CANARY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    return str(request.param)


@pytest.fixture
def plugin(name: str) -> Any:
    return importlib.import_module(f"tutelage_{name}")


@pytest.fixture
def model(name: str) -> Model:
    return Model(name, MODELS[name])


def surroundings(plugin: Any, server: Any, **settings: Any) -> Context:
    info = plugin.describe()
    base_url = server.url + ("/v1" if "openai" in plugin.__name__ else "")
    return Context(settings=info.settings(**{"base_url": base_url, "revision": "1", "limits": LIMITS, **settings}))


def judge(plugin: Any, model: Model, context: Context, items: list[JudgeItem] = ITEMS, **options: Any) -> list[Any]:
    arguments = {"rubric": ADDITIVE_RUBRIC, "samples": 1, "sampling": SAMPLING, **options}
    return list(plugin.judge(model=model, items=iter(items), context=context, **arguments))


def test_it_keeps_the_contract(plugin: Any, model: Model, start_server: StartServer, name: str) -> None:
    base_url = start_server(name).url + ("/v1" if name == "openai" else "")
    served = evolve(model, settings={"base_url": base_url, "revision": "1"})
    check_plugin(plugin, model=served).raise_for_problems()


def test_it_gives_the_requested_number_of_judgements_per_item(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    context = surroundings(plugin, start_server(name))
    judgements = judge(plugin, model, context, ITEMS[:5], samples=3)
    assert sorted(judgement.id for judgement in judgements) == sorted(
        f"item-{i}#{s}" for i in range(5) for s in range(3)
    )
    for judgement in judgements:
        assert judgement.outcome is Outcome.ANSWERED
        assert judgement.score == parse_score(judgement.raw, ADDITIVE_RUBRIC).score
        assert judgement.reason == "It says so."


def test_it_demonstrates_and_generates(plugin: Any, model: Model, start_server: StartServer, name: str) -> None:
    context = surroundings(plugin, start_server(name))
    shown = list(plugin.demonstrate(model=model, prompts=iter(PROMPTS), sampling=SAMPLING, context=context))
    assert {demonstration.prompt_id: demonstration.text for demonstration in shown} == {
        prompt.id: f"An answer to: {prompt.text}" for prompt in PROMPTS
    }
    candidates = plugin.generate_candidates(model=model, prompts=iter(PROMPTS), n=2, sampling=SAMPLING, context=context)
    assert sorted(c.id for c in candidates) == sorted(f"{prompt.id}/{index}" for prompt in PROMPTS for index in (0, 1))


def test_a_preference_is_weighted_by_log_probabilities_where_there_are_some(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name)
    comparisons = [Comparison(str(number), "Which?", f"One {number}.", f"Two {number}.") for number in range(12)]

    def verdicts(log_probabilities: bool) -> dict[str, Any]:
        found = plugin.evaluate(
            model=model,
            comparisons=iter(comparisons),
            rubric=PAIRWISE_RUBRIC,
            sampling=SAMPLING,
            context=surroundings(plugin, server, log_probabilities=log_probabilities),
        )
        return {verdict.comparison_id: verdict for verdict in found}

    # the server gives probability 0.7 to the word in its reply, and 0.2 and 0.1 to the others, in order
    weighted = {"better: first": 0.75, "better: second": 0.25, "better: tie": 0.55}
    stated = {"better: first": 1.0, "better: second": 0.0, "better: tie": 0.5}
    for asked_for, expected in ((True, weighted), (False, stated)):
        given = verdicts(asked_for)
        assert set(given) == {comparison.id for comparison in comparisons}
        assert {verdict.raw for verdict in given.values()} == set(expected)
        for verdict in given.values():
            assert verdict.preference == pytest.approx(expected[verdict.raw])


def test_with_a_third_of_the_calls_faulty_every_item_ends_as_one_typed_outcome(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name, "--faults", "0.3", "--seed", "7")
    context = surroundings(plugin, server)
    judgements = judge(plugin, model, context)
    asked = server.asked()
    assert sorted(judgement.item_id for judgement in judgements) == sorted(item.id for item in ITEMS)
    kinds = Counter(row["kind"] for row in asked)
    assert Counter(judgement.outcome for judgement in judgements) == Counter(
        {Outcome.ANSWERED: kinds["ok"], Outcome.REFUSED: kinds["blocked"], Outcome.UNPARSED: kinds["length"]}
    )
    answered = Counter(row["question"] for row in asked if row["kind"] in ("ok", "blocked", "length"))
    assert set(answered.values()) == {1}
    assert context.caller.tally.attempts == len(asked)
    unanswered = [judgement for judgement in judgements if judgement.outcome is not Outcome.ANSWERED]
    assert unanswered
    assert all(judgement.score is None for judgement in unanswered)
    assert all(judgement.detail for judgement in unanswered)
    again = judge(plugin, model, surroundings(plugin, server))
    assert len(server.asked()) == len(asked)
    assert sorted(map(str, again)) == sorted(map(str, judgements))


@pytest.mark.parametrize("kind", ["429", "500", "503", "hang", "drop", "html", "cut-json", "empty-object", "short"])
def test_no_answer_is_a_failure_with_its_reason(
    plugin: Any, model: Model, start_server: StartServer, name: str, kind: str
) -> None:
    server = start_server(name, "--always", kind)
    limits = evolve(LIMITS, attempts=2, attempt_seconds=0.3)
    context = surroundings(plugin, server, limits=limits)
    (judgement,) = judge(plugin, model, context, ITEMS[:1])
    assert (judgement.outcome, judgement.score) == (Outcome.FAILED, None)
    assert judgement.detail.endswith("(2 attempts)")
    assert len(server.asked()) == 2
    assert list(context.caller.ledger.export()) == []


def test_a_request_that_is_too_long_fails_once(plugin: Any, model: Model, start_server: StartServer, name: str) -> None:
    server = start_server(name, "--always", "too-long")
    (judgement,) = judge(plugin, model, surroundings(plugin, server), ITEMS[:1])
    assert (judgement.outcome, len(server.asked())) == (Outcome.FAILED, 1)
    assert "maximum context length" in judgement.detail


def test_a_removed_model_is_named_and_stops_the_step(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name, "--always", "gone")
    with pytest.raises(StageError, match=rf"has no model '{model.name}' \(perhaps removed\).*choose another model"):
        judge(plugin, model, surroundings(plugin, server))
    assert len(server.asked()) <= LIMITS.in_flight


@pytest.mark.parametrize("kind", ["denied", "echo-400", "echo-500", "echo-answer"])
def test_the_key_is_in_no_output_even_if_the_service_echoes_it(
    plugin: Any,
    model: Model,
    start_server: StartServer,
    name: str,
    kind: str,
    ledger_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start_server(name, "--always", kind)
    context = surroundings(plugin, server, limits=evolve(LIMITS, attempts=2))
    caplog.set_level("INFO")
    try:
        output = repr(judge(plugin, model, context, ITEMS[:3]))
    except StageError as error:
        assert kind == "denied"
        output = "".join(__import__("traceback").format_exception(error))
    assert "[key]" in output  # the service did echo it
    context.caller.ledger.close()
    texts = [output, repr(context), *capfd.readouterr(), caplog.text, ledger_path.read_bytes().decode("latin-1")]
    assert not [text for text in texts if CANARY in text]


def test_a_missing_key_is_named_with_its_variable(plugin: Any, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (variable, *_) = [needed.name for needed in plugin.describe().environment]
    monkeypatch.delenv(variable)
    with pytest.raises(InputError, match=f"environment variable {variable}"):
        judge(plugin, model, Context(settings=plugin.describe().settings()))


def test_a_missing_sdk_is_named_with_the_command_that_installs_it(
    plugin: Any, model: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"openai": "openai", "gemini": "google.generativeai"}[name], None)
    with pytest.raises(PluginError, match=re.escape(install_command(name))):
        judge(plugin, model, Context(settings=plugin.describe().settings()))


def test_its_entry_module_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys, tutelage_{name} as plugin; plugin.describe(); "
        "print([m for m in ('openai', 'google.generativeai', 'genai_prices', 'tenacity', 'requests', 'torch', 'numpy') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_other_seeds_ask_again_and_the_same_seed_does_not(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name)
    for seed in (0, 1, 1, 0):
        judge(plugin, model, surroundings(plugin, server), ITEMS[:4], sampling=evolve(SAMPLING, seed=seed))
    assert len(server.asked()) == 8


def test_a_server_on_this_machine_is_not_kept_without_a_revision(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name)
    for _ in range(2):
        judge(plugin, model, surroundings(plugin, server, revision=""), ITEMS[:4])
    assert len(server.asked()) == 8


def test_half_of_the_known_cost_as_budget_stops_and_the_whole_goes_on(
    plugin: Any, model: Model, start_server: StartServer, name: str, ledger_path: Path
) -> None:
    server, price = start_server(name), Price(input=100.0, output=100.0)
    whole = Caller(Ledger(ledger_path.with_name("other.db")))
    context = evolve(surroundings(plugin, server, price=price), caller=whole)
    judge(plugin, model, context)
    known, questions = whole.tally.cost, len(server.asked())
    assert known > 0

    ledger = Ledger(ledger_path)
    half = Caller(ledger, Budget(known / 2), run="runs/a")
    with pytest.raises(BudgetError, match="is used up"):
        judge(plugin, model, evolve(context, caller=half))
    assert 0.4 * known < ledger.spent("runs/a") <= known / 2

    more = Caller(ledger, Budget(2 * known, ledger.spent("runs/a")), run="runs/a")
    assert len(judge(plugin, model, evolve(context, caller=more))) == len(ITEMS)
    assert len(server.asked()) == 2 * questions
    assert ledger.spent("runs/a") == pytest.approx(known)


def test_the_doctor_finds_everything_with_one_free_call(
    plugin: Any, model: Model, start_server: StartServer, name: str
) -> None:
    server = start_server(name)
    settings = surroundings(plugin, server).settings
    findings = list(plugin.check(settings, model.name))
    assert [(finding.what, finding.ok) for finding in findings] == [
        ("SDK", True),
        ("key", True),
        ("endpoint", True),
        ("model", True),
    ]
    assert server.asked() == []


def test_the_doctor_says_what_is_missing(
    plugin: Any, model: Model, start_server: StartServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, settings_class = plugin.check, plugin.describe().settings
    unknown = list(check(surroundings(plugin, start_server(name)).settings, "no-such-model"))[-1]
    assert unknown.what == "model"
    assert "no-such-model" in unknown.detail
    assert unknown.ok is (name == "openai")  # a local server may serve models that it does not list
    dead = list(check(settings_class(base_url="http://127.0.0.1:9"), model.name))[-1]
    assert (dead.what, dead.ok) == ("endpoint", False)
    monkeypatch.delenv(plugin.describe().environment[0].name)
    keyless = list(check(settings_class(), model.name))[-1]
    assert (keyless.what, keyless.ok) == ("key", False)


def test_its_settings_come_from_a_recipe_with_nested_limits_and_price(plugin: Any) -> None:
    cls = plugin.describe().settings
    settings = structure(cls, {"limits": {"in_flight": 64}, "price": {"input": 1, "output": 2.5}}, "recipe")
    assert (settings.limits.in_flight, settings.price.output) == (64, 2.5)
    with pytest.raises(InputError, match=r"recipe: limits\.in_flihgt: unknown key; did you mean 'in_flight'"):
        structure(cls, {"limits": {"in_flihgt": 64}}, "recipe")
    with pytest.raises(InputError, match=r"limits\.in_flight"):
        structure(cls, {"limits": {"in_flight": 0}}, "recipe")
