"""Complete runs with an API as teacher, judge and evaluator; only the bindings differ from a local run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_runs import (
    ARTIFACTS,
    IN_FLIGHT,
    Undisturbed,
    api_recipe,
    api_registry,
    kill_and_continue,
    kill_while_a_batch_is_pending,
    undisturbed_run,
)
from api_servers import ApiServer, running
from attrs import evolve

from tutelage.errors import BudgetError, InputError, Interrupted, StageError
from tutelage.execution.runner import run
from tutelage.planning.checks import checked_plan
from tutelage.planning.estimate import Estimate, estimates
from tutelage.plugins.registry import Registry
from tutelage.recipe.data_section import SelfInstruct
from tutelage.recipe.schema import Recipe
from tutelage.records import Judgement
from tutelage.runs.store import Store
from tutelage.services.ledger import Entry, Ledger
from tutelage.services.prices import Price

CANARY = "sk-canary-0123456789abcdef"

StartServer = Callable[..., Any]


@pytest.fixture
def registry() -> Registry:
    return api_registry()


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_teacher_pipelines_run_whole_and_a_repeated_run_asks_nothing(
    service: str, registry: Registry, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(service, "--faults", "0.05")
    recipe = api_recipe(service, server.url)
    first = run(recipe, tmp_path / "first", registry)
    assert first is not None
    assert {"M2/teacher-reward", "M2/teacher-demonstration"} <= {model.id for model in first.models}
    asked = Counter(row["question"] for row in server.asked() if row["kind"] in ("ok", "blocked", "length"))
    assert asked
    run(recipe, tmp_path / "second", registry)
    again = Counter(row["question"] for row in server.asked() if row["kind"] in ("ok", "blocked", "length"))
    assert again == asked
    names = ["summary.json", "seed-0/teacher-demonstration/M2/preferences.jsonl"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_change_of_dpo_asks_no_paid_question_again_and_a_changed_judge_asks_what_is_new_alone(
    registry: Registry, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("openai")
    first = api_recipe("openai", server.url)
    run(first, tmp_path / "run", registry)
    before = Counter(row["question"] for row in server.asked())

    def asked_by(changed: Recipe, name: str) -> Counter[str]:
        """What a change asks without the help of the ledger."""
        nonlocal before
        monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / f"{name}.db"))
        run(changed, tmp_path / "run", registry)
        now = Counter(row["question"] for row in server.asked())
        new, before = now - before, now
        return new

    training_only = evolve(first, evaluation=None, dpo=evolve(first.dpo, beta=0.3))
    assert not asked_by(training_only, "dpo")
    assert not asked_by(first, "back"), "the measured artifacts were set aside and are taken again"
    judged = Store(tmp_path / "run").read("seed-0/teacher-reward/M2/judgements.jsonl", Judgement)
    warmer = evolve(training_only, judging=evolve(first.judging, temperature=0.5))
    found = asked_by(warmer, "judge")
    assert 0 < found.total() <= len(judged), "demonstrations are not asked again"


def test_an_interrupted_change_of_the_judge_keeps_its_paid_answers(
    registry: Registry, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("openai")
    first = evolve(api_recipe("openai", server.url), evaluation=None)
    warmer = evolve(first, judging=evolve(first.judging, temperature=0.5))
    run(first, tmp_path / "run", registry)
    before = len(server.asked())
    with pytest.raises(Interrupted):
        run(warmer, tmp_path / "run", registry, cancelled=lambda: len(server.asked()) > before + IN_FLIGHT)
    run(warmer, tmp_path / "run", registry)
    asked = Counter(row["question"] for row in server.asked()[before:])
    assert asked
    assert set(asked.values()) == {1}
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "other.db"))
    run(first, tmp_path / "run", registry)
    assert sum(asked.values()) == len(server.asked()) - before, "the answers of the first judge are taken again"


def test_a_refusal_is_kept_until_ask_refused_again_is_set(registry: Registry, tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    with running("openai", log, "--always", "blocked") as server:
        recipe = api_recipe("openai", server.url)
        with pytest.raises(StageError, match="no pair was left"):
            run(recipe, tmp_path / "refused", registry)
        asked = server.asked()
    with running("openai", log, "--port", str(server.port)) as server:
        with pytest.raises(StageError, match="no pair was left"):
            run(recipe, tmp_path / "kept", registry)
        assert server.asked() == asked
        assert run(recipe, tmp_path / "again", registry, ask_refused_again=True) is not None
        questions = Counter(row["question"] for row in server.asked())
        assert {row["question"] for row in asked} <= questions.keys()
        assert set(questions.values()) == {1, 2}
        assert run(recipe, tmp_path / "later", registry) is not None  # answers take precedence over refusals
        assert Counter(row["question"] for row in server.asked()) == questions


@pytest.mark.slow  # the processes of tests/core/services/test_batches.py are killed by default
def test_a_run_in_batches_that_is_killed_at_each_batch_writes_what_single_requests_give_and_asks_nothing_twice(
    registry: Registry, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("openai", "--batch-seconds", "1.5")
    price = {"input": 100.0, "output": 100.0}
    run(api_recipe("openai", server.url, price=price), tmp_path / "single", registry)
    single = Counter(row["question"] for row in server.asked())
    batch_limits = {"requests": 5, "poll_seconds": 0.1}
    kills = kill_while_a_batch_is_pending(server, tmp_path / "run", price=price, batch_limits=batch_limits)
    assert kills >= 3, "demonstrations, judgements and verdicts"
    assert Counter(row["question"] for row in server.asked()) == single + single
    for name in ARTIFACTS:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()
    ledger = Ledger(Path(f"{tmp_path / 'run'}-ledger.db"))
    assert ledger.spent(str(tmp_path / "run")) == pytest.approx(Ledger().spent(str(tmp_path / "single")) / 2)


def test_a_plan_in_batches_costs_half(registry: Registry) -> None:
    def cost(**settings: bool) -> dict[str, float | None]:
        recipe = api_recipe("openai", "http://127.0.0.1:9", price={"input": 1.0, "output": 10.0}, **settings)
        return {line.stage: line.cost for line in estimates(checked_plan(recipe, registry), recipe, registry)}

    single = cost()
    assert set(single) == {"judge", "demonstrate", "evaluate"}
    assert cost(batch=True) == {stage: pytest.approx(0.5 * (dollars or 0)) for stage, dollars in single.items()}


def test_a_plan_is_estimated_by_price_and_corrected_by_what_was_seen(
    registry: Registry, start_server: StartServer, tmp_path: Path, ledger_path: Path
) -> None:
    server = start_server("openai")
    recipe = api_recipe("openai", server.url, price={"input": 1.0, "output": 10.0})
    plan = checked_plan(recipe, registry)

    def by_stage() -> dict[tuple[str, str], Estimate]:
        found = estimates(plan, recipe, registry, Ledger(ledger_path))
        return {(estimate.stage, estimate.role): estimate for estimate in found}

    before = by_stage()
    assert set(before) == {
        ("judge", "judge"),
        ("judge", "evaluator"),
        ("demonstrate", "teacher"),
        ("evaluate", "evaluator"),
    }
    shown = before["demonstrate", "teacher"]
    assert (shown.calls, shown.output_tokens, shown.seen) == (12, 12 * 256, False)
    assert shown.cost == pytest.approx((shown.input_tokens * 1.0 + shown.output_tokens * 10.0) / 1e6)
    ledger = Ledger(ledger_path)
    entry = {"key": "1", "provider": "openai", "base_url": "", "model": "gpt-test", "revision": "", "request": "{}"}
    ledger.store(Entry(**entry, sample=0, outcome="answered", input_tokens=20, output_tokens=5, stage="demonstrate"))  # type: ignore[arg-type]
    after = by_stage()["demonstrate", "teacher"]
    assert (after.input_tokens, after.output_tokens, after.seen) == (12 * 20, 12 * 5, True)
    assert by_stage()["judge", "judge"] == before["judge", "judge"]


def test_prompts_that_a_paid_teacher_writes_are_estimated_in_whole_rounds_of_requests(
    registry: Registry, ledger_path: Path
) -> None:
    price = Price(input=1.0, output=10.0)
    recipe = api_recipe("openai", "http://127.0.0.1:9", price={"input": price.input, "output": price.output})

    def written(**settings: Any) -> Estimate:
        prompts = evolve(recipe.data.fresh_prompts, count=200, self_instruct=SelfInstruct(writer="teacher", **settings))
        paid = evolve(recipe, data=evolve(recipe.data, prompts=prompts))
        found = estimates(checked_plan(paid, registry), paid, registry, Ledger(ledger_path))
        (estimate,) = (line for line in found if line.stage == "prompts")
        return estimate

    expected = written(shots=4, max_new_tokens=100)
    assert (expected.role, expected.calls, expected.seen) == ("teacher", 96, False)  # 200 / 3, in rounds of 32
    assert (expected.input_tokens, expected.output_tokens) == (96 * 5 * 60, 96 * 100)
    assert expected.cost == pytest.approx(
        (expected.input_tokens * price.input + expected.output_tokens * price.output) / 1e6
    )
    assert written(max_requests=50).calls == 50
    student = evolve(recipe.data.fresh_prompts, count=200, self_instruct=SelfInstruct())
    free = evolve(recipe, data=evolve(recipe.data, prompts=student))
    stages = {line.stage for line in estimates(checked_plan(free, registry), free, registry, Ledger(ledger_path))}
    assert "prompts" not in stages


def test_an_unknown_price_is_estimated_in_tokens_only(
    registry: Registry, start_server: StartServer, ledger_path: Path
) -> None:
    recipe = api_recipe("gemini", start_server("gemini").url)
    found = estimates(checked_plan(recipe, registry), recipe, registry, Ledger(ledger_path))
    assert found
    assert all(estimate.cost is None and estimate.input_tokens > 0 for estimate in found)


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_a_step_in_which_every_request_fails_is_an_error_and_continues_when_the_service_is_repaired(
    service: str, registry: Registry, tmp_path: Path
) -> None:
    with running(service, tmp_path / "broken.jsonl", "--always", "too-long") as broken:
        recipe = api_recipe(service, broken.url)
        message = rf"plugin '{service}', model '[a-z]+-test' at {broken.url}.*: every request failed \(\d+\)"
        with pytest.raises(StageError, match=message) as caught:
            run(recipe, tmp_path / "run", registry)
        port = broken.port
    assert caught.value.exit_code == 6
    with running(service, tmp_path / "repaired.jsonl", "--port", str(port)):
        assert run(recipe, tmp_path / "run", registry) is not None


def test_prompts_that_no_request_of_the_teacher_writes_are_an_error(registry: Registry, tmp_path: Path) -> None:
    with running("openai", tmp_path / "broken.jsonl", "--always", "too-long") as broken:
        recipe = api_recipe("openai", broken.url)
        prompts = evolve(recipe.data.fresh_prompts, count=200, self_instruct=SelfInstruct(writer="teacher"))
        with pytest.raises(StageError, match=r"plugin 'openai', model 'gpt-test' .*: every request failed \(32\)"):
            run(evolve(recipe, data=evolve(recipe.data, prompts=prompts)), tmp_path / "run", registry)
        assert len(broken.asked()) == 32


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that answers after 50 ms, so that a signal finds requests in flight."""
    with running("openai", tmp_path_factory.mktemp("slow-server") / "log.jsonl", "--latency", "0.05") as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(slow_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed_run("openai", slow_server, tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_killed_run_continues_to_the_same_artifacts_and_repeats_only_what_was_in_flight(
    slow_server: ApiServer, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    (killed,) = kill_and_continue("openai", slow_server, tmp_path, undisturbed, kills=1)
    assert killed.same
    assert 0 <= killed.repeated <= IN_FLIGHT


@pytest.mark.parametrize("by", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_stopped_run_waits_for_the_answers_in_flight_and_repeats_no_request(
    slow_server: ApiServer, undisturbed: Undisturbed, tmp_path: Path, by: str
) -> None:
    (stopped,) = kill_and_continue("openai", slow_server, tmp_path, undisturbed, kills=1, by=by)
    assert stopped.same
    assert stopped.repeated == 0


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_the_key_is_in_no_file_of_a_run_though_the_service_echoes_it_in_every_answer(
    service: str, registry: Registry, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(variable, CANARY)
    run(api_recipe(service, start_server(service, "--always", "echo-answer").url), tmp_path / "run", registry)
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [path for path, text in texts.items() if b"your key is [key]" in text]
    assert not [path for path, text in texts.items() if CANARY.encode() in text]


def test_a_run_stops_before_its_budget_is_passed_and_goes_on_with_a_higher_one(
    registry: Registry, start_server: StartServer, tmp_path: Path, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = {"input": 100.0, "output": 100.0}
    recipe = api_recipe("openai", start_server("openai").url, price=price)
    run(recipe, tmp_path / "whole", registry)
    cost = Ledger(ledger_path).spent(str(tmp_path / "whole"))
    assert cost > 0
    other = tmp_path / "other-ledger.db"
    monkeypatch.setenv("TUTELAGE_LEDGER", str(other))
    with pytest.raises(BudgetError, match="is used up"):
        run(evolve(recipe, budget=cost / 2), tmp_path / "run", registry)
    assert 0 < Ledger(other).spent(str(tmp_path / "run")) <= cost / 2
    run(evolve(recipe, budget=cost * 2), tmp_path / "run", registry)
    assert (tmp_path / "run/summary.json").read_bytes() == (tmp_path / "whole/summary.json").read_bytes()
    spend = Ledger(other).spend(by=("run", "stage"))
    assert {line.group[1] for line in spend} == {"judge", "demonstrate", "evaluate"}
    assert sum(line.cost for line in spend) == pytest.approx(cost)


def test_a_budget_with_an_unknown_price_is_refused_before_anything_is_written(
    registry: Registry, start_server: StartServer, tmp_path: Path
) -> None:
    recipe = api_recipe("gemini", start_server("gemini").url)
    with pytest.raises(InputError, match="budget: the price of 'gemini-test'"):
        run(evolve(recipe, budget=1.0), tmp_path / "run", registry)
    assert not (tmp_path / "run").exists()
