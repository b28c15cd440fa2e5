"""The plugin passes the contract checks and gives each kind of reply of a service one outcome, by Google's real SDK."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import tutelage
import tutelage_google_genai as plugin
from tutelage import Comparison, Context, JudgeItem, Model, Outcome, Prompt, Registry, Sampling
from tutelage.errors import BudgetError, InputError, Interrupted, StageError
from tutelage.preferences.judging import ADDITIVE_RUBRIC, PAIRWISE_RUBRIC
from tutelage.recipe.loading import load_recipe
from tutelage.records import Message
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.testing import check_plugin
from tutelage_google_genai.client import request_body
from tutelage_google_genai.settings import GoogleGenAiSettings

FIXTURES = Path(__file__).parents[3] / "tests" / "fixtures"
"""Tutelage's own local servers."""

pytest.importorskip("google.genai", reason="google-genai is not installed; run: pip install google-genai")
api_servers = pytest.importorskip("api_servers", reason="run the tests in a checkout of tutelage")
sys.path.append(str(FIXTURES / "servers"))
hostile = importlib.import_module("hostile")

LIMITS = {"in_flight": 8, "attempts": 8, "attempt_seconds": 1.0, "first_wait": 0.02}
ITEMS = [JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(60)]
CANARY = "sk-canary/0123456789+abcdef=="
SAMPLING = Sampling(max_new_tokens=64)
StartServer = Callable[..., Any]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key, a ledger of the test, and no proxy."""
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "ledger.db"))
    for name in ("GOOGLE_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """``start_server("--faults", "0.3")``: a server that is ended with the test."""
    with ExitStack() as servers:

        def start(*options: str) -> Any:
            log = tmp_path / f"server-{len(list(tmp_path.iterdir()))}.jsonl"
            return servers.enter_context(api_servers.running("gemini", log, *options))

        yield start


def model(server: Any, path: str = "", **settings: Any) -> Model:
    chosen = {"base_url": server.url + path, "revision": "1", "limits": LIMITS, **settings}
    return Model("google-genai", "gemini-test", chosen)


def registry() -> Registry:
    registry = Registry.empty()
    registry.register(plugin, "google-genai")
    return registry


def judged(judge: Model, items: list[JudgeItem] = ITEMS, caller: Caller | None = None) -> list[tutelage.Judgement]:
    context = Context(caller=caller or Caller())
    return list(tutelage.judge(registry(), judge, items, ADDITIVE_RUBRIC, 1, SAMPLING, context))


def test_the_contract_is_kept(start_server: StartServer) -> None:
    check_plugin("google-genai", model=model(start_server())).raise_for_problems()


def test_it_demonstrates_and_judges_and_a_repeated_question_is_not_asked(start_server: StartServer) -> None:
    server = start_server()
    prompts = [Prompt("Why?"), Prompt.of_messages([Message("system", "Be brief."), Message("user", "How?")])]
    shown = list(tutelage.demonstrate(registry(), model(server), prompts, SAMPLING, Context()))
    assert {one.text for one in shown} == {"An answer to: Why?", "An answer to: How?"}
    first, again = judged(model(server)), judged(model(server))
    assert {judgement.outcome for judgement in first} == {Outcome.ANSWERED}
    assert sorted(map(str, first)) == sorted(map(str, again))
    assert len(server.asked()) == len(prompts) + len(ITEMS)


def test_a_verdict_is_weighted_by_log_probabilities(start_server: StartServer) -> None:
    evaluator = model(start_server(), log_probabilities=True)
    comparisons = [Comparison(str(number), "Which?", f"One {number}.", f"Two {number}.") for number in range(8)]
    found = tutelage.evaluate(registry(), evaluator, comparisons, PAIRWISE_RUBRIC, SAMPLING, Context())
    weighted = {"better: first": 0.75, "better: second": 0.25, "better: tie": 0.55}
    for verdict in found:
        assert verdict.preference == pytest.approx(weighted[verdict.raw])


def test_with_a_third_of_the_calls_faulty_every_item_has_one_outcome(start_server: StartServer) -> None:
    server = start_server("--faults", "0.3", "--seed", "7")
    outcomes = Counter(judgement.outcome for judgement in judged(model(server)))
    kinds = Counter(row["kind"] for row in server.asked())
    expected = {Outcome.ANSWERED: kinds["ok"], Outcome.REFUSED: kinds["blocked"], Outcome.UNPARSED: kinds["length"]}
    assert outcomes == Counter(expected)
    assert kinds.total() > len(ITEMS)


def test_every_hostile_reply_has_its_outcome(start_server: StartServer) -> None:
    server = start_server()
    groups = {"ANSWERED": hostile.ANSWERED, "UNPARSED": hostile.UNPARSED, "REFUSED": hostile.REFUSED}
    found = {
        (name, kind): {str(one.outcome) for one in judged(model(server, f"/kind/{kind}"), ITEMS[:2])}
        for name, kinds in {**groups, "FAILED": hostile.FAILED}.items()
        for kind in kinds
    }
    assert found == {(name, kind): {name.lower()} for name, kind in found}


@pytest.mark.parametrize("kind", hostile.STOPPING)
def test_an_error_that_no_retry_mends_stops_the_step(start_server: StartServer, kind: str) -> None:
    server = start_server()
    with pytest.raises(StageError, match=rf"plugin 'google-genai', model 'gemini-test' .*{hostile.STOPPING[kind]}"):
        judged(model(server, f"/kind/{kind}"))
    assert len(server.asked()) <= LIMITS["in_flight"]


def test_the_key_is_in_no_error_answer_or_file(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    for kind in (*hostile.ECHOES, "echo-answer", "echo-400", "denied"):
        try:
            texts = [f"{one.raw}{one.detail}" for one in judged(model(server, f"/kind/{kind}", limits={"attempts": 1}))]
        except StageError as error:
            texts = [str(error)]
        assert texts
        assert not [text for text in texts if CANARY in text]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_the_budget_stops_the_judge_before_it_is_passed(start_server: StartServer) -> None:
    budget = Budget(0.5)
    with pytest.raises(BudgetError, match="is used up"):
        judged(model(start_server(), price={"input": 100.0, "output": 100.0}), caller=Caller(budget=budget))
    assert 0 < budget.spent <= 0.5


def test_a_missing_key_is_an_error_before_a_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(InputError, match=r"needs a key .* GEMINI_API_KEY"):
        judged(Model("google-genai"))


def test_variables_of_the_environment_do_not_redirect_the_sdk(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_API_KEY", "another-key-0123456789")
    server = start_server()
    assert {one.outcome for one in judged(model(server), ITEMS[:3])} == {Outcome.ANSWERED}
    assert len(server.asked()) == 3


@pytest.mark.parametrize(
    ("name", "expected"), [("gemini-test", {"SDK", "key", "endpoint", "model"}), ("no-model", {"SDK", "key", "model"})]
)
def test_the_check_names_what_is_missing(start_server: StartServer, name: str, expected: set[str]) -> None:
    settings = GoogleGenAiSettings(base_url=start_server().url)
    findings = {finding.what: finding for finding in plugin.check(settings, name)}
    assert set(findings) == expected
    assert findings["model"].ok is (name == "gemini-test")


def test_a_request_is_valid_for_the_sdk() -> None:
    from google.genai import types

    from tutelage.services.chat import Question

    question = Question("Why?", Sampling(top_k=40), system="Be brief.", log_probabilities=True)
    body = request_body(GoogleGenAiSettings(block="none"), "m", question)
    config = types.GenerateContentConfig.model_validate(body["config"])
    assert (config.top_k, config.logprobs, config.max_output_tokens) == (40, 5, 256)
    assert {setting.threshold for setting in config.safety_settings or ()} == {types.HarmBlockThreshold.BLOCK_NONE}


def test_the_recipe_of_the_package_binds_the_teacher_to_the_plugin() -> None:
    recipe = load_recipe(Path(__file__).parents[1] / "teacher-reward.yaml")
    assert (recipe.models.teacher.plugin, list(recipe.pipelines)) == ("google-genai", ["teacher-reward"])  # type: ignore[union-attr]


BATCH: dict[str, Any] = {
    "batch": True,
    "batch_limits": {"requests": 25, "poll_seconds": 0.05},
    "price": {"input": 100, "output": 100},
}


def times_asked(server: Any) -> set[int]:
    return set(Counter(row["question"] for row in server.asked()).values())


def test_batches_give_the_answers_of_single_requests_at_half_the_price(start_server: StartServer) -> None:
    server, caller = start_server(), Caller(run="a", stage="judge")
    in_batches = judged(model(server, **BATCH), caller=caller)
    assert sorted(map(str, in_batches)) == sorted(map(str, judged(model(server))))
    assert (len(server.asked()), times_asked(server)) == (len(ITEMS), {1})
    [line] = caller.ledger.spend(by=("run",), run="a")
    assert line.cost == pytest.approx((line.input_tokens + line.output_tokens) * 100 / 1e6 / 2)


def test_a_faulty_batch_gives_each_request_one_outcome(start_server: StartServer) -> None:
    server = start_server("--faults", "0.3", "--seed", "7")
    outcomes = Counter(judgement.outcome for judgement in judged(model(server, **BATCH)))
    kinds = Counter(row["kind"] for row in server.asked())
    assert outcomes[Outcome.ANSWERED] == kinds["ok"] > 0
    assert (outcomes[Outcome.REFUSED], outcomes[Outcome.UNPARSED]) == (kinds["blocked"], kinds["length"])
    assert outcomes.total() == len(ITEMS)


@pytest.mark.parametrize("modes", ["expire", "lost-reply", "ok,full"])
def test_a_batch_that_expires_or_is_found_again_or_waits_asks_nothing_twice(
    start_server: StartServer, modes: str
) -> None:
    server = start_server("--batches", modes, "--batch-seconds", "0.2")
    assert {judgement.outcome for judgement in judged(model(server, **BATCH))} == {Outcome.ANSWERED}
    assert times_asked(server) == {1}


@pytest.mark.parametrize(("modes", "expected"), [("cancel", "was cancelled"), ("full,full,full", "batch_limits")])
def test_a_cancelled_or_rejected_batch_stops_and_the_same_call_continues(
    start_server: StartServer, modes: str, expected: str
) -> None:
    server = start_server("--batches", modes)
    with pytest.raises(StageError, match=expected):
        judged(model(server, **BATCH))
    assert len(judged(model(server, **BATCH))) == len(ITEMS)
    assert times_asked(server) == {1}


def test_a_stopped_judge_continues_with_the_batches_that_are_pending(start_server: StartServer) -> None:
    server = start_server("--batch-seconds", "0.5")
    stop = Caller(run="a", stage="judge", cancelled=lambda: len(server.asked()) == len(ITEMS))
    with pytest.raises(Interrupted, match="3 batches with 60 requests continue at the service"):
        judged(model(server, **BATCH), caller=stop)
    assert len(judged(model(server, **BATCH), caller=Caller(run="a", stage="judge"))) == len(ITEMS)
    assert times_asked(server) == {1}
