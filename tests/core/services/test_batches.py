"""Requests in batches against a local server with OpenAI's batch endpoint: paid once, counted at half price."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import filelock
import pytest
from api_servers import ApiServer, running

import tutelage_openai
from tutelage.context import Context
from tutelage.errors import BudgetError, InputError, Interrupted, StageError
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import JudgeItem, Judgement, Model, Outcome, Sampling
from tutelage.services.batch_journal import BatchJournal
from tutelage.services.batch_service import BatchLimits
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.prices import Price
from tutelage.services.requests import Limits
from tutelage_openai.settings import OpenAiSettings, endpoint

ITEMS = [JudgeItem(f"item-{number}", f"Question {number}?", f"Answer {number}.") for number in range(12)]
PRICE = Price(input=100.0, output=100.0)
StartServer = Callable[..., ApiServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    with ExitStack() as servers:
        yield lambda *options: servers.enter_context(running("openai", tmp_path / "asked.jsonl", *options))


def settings(server: ApiServer, requests: int = 5, batch: bool = True, **changes: Any) -> OpenAiSettings:
    limits = Limits(attempts=3, first_wait=0.02, failures_in_a_row=100)
    batches = BatchLimits(requests=requests, poll_seconds=0.05)
    chosen = {"base_url": f"{server.url}/v1", "revision": "1", "limits": limits, "batch_limits": batches, **changes}
    return OpenAiSettings(batch=batch, price=PRICE, **chosen)


def judged(settings: OpenAiSettings, caller: Caller | None = None, items: list[JudgeItem] = ITEMS) -> list[Judgement]:
    context = Context(settings=settings, caller=caller or Caller(run="a", stage="judge"))
    model = Model("openai", "gpt-test")
    arguments: dict[str, Any] = {"rubric": ADDITIVE_RUBRIC, "samples": 1, "sampling": Sampling(max_new_tokens=64)}
    return list(tutelage_openai.judge(model=model, items=iter(items), context=context, **arguments))


def times_asked(server: ApiServer) -> list[int]:
    return sorted(Counter(row["question"] for row in server.asked()).values())


def pending(settings: OpenAiSettings) -> int:
    return len(BatchJournal(Ledger(), endpoint(settings, "gpt-test")).pending())


def test_batches_give_the_same_answers_as_single_requests_at_half_the_price(start_server: StartServer) -> None:
    server, notes, caller = start_server(), list[str](), Caller(run="a", stage="judge")
    caller.note = notes.append
    in_batches = judged(settings(server), caller)
    assert times_asked(server) == [1] * len(ITEMS)
    assert sorted(map(str, judged(settings(server, batch=False)))) == sorted(map(str, in_batches))
    assert times_asked(server) == [1] * len(ITEMS), "the ledger serves single requests, too"
    cost = Ledger().spent("a")
    assert caller.tally.cost == pytest.approx(cost)
    [line] = Ledger().spend(by=("run",), run="a")
    assert cost == pytest.approx((line.input_tokens + line.output_tokens) * 100.0 / 1e6 / 2)
    assert [note.split(" are ")[0] for note in notes[:3]] == [
        "batches: 5 requests", "batches: 5 requests", "batches: 2 requests",
    ]  # fmt: skip


def test_requests_that_expired_are_sent_again_and_those_that_were_answered_are_not(start_server: StartServer) -> None:
    server = start_server("--batches", "expire")
    assert {judgement.outcome for judgement in judged(settings(server, requests=12))} == {Outcome.ANSWERED}
    assert times_asked(server) == [1] * len(ITEMS)


def test_a_batch_that_a_user_cancels_stops_the_step_and_its_answers_are_kept(start_server: StartServer) -> None:
    server = start_server("--batches", "cancel")
    with pytest.raises(StageError, match=r"batch_0, a batch, was cancelled at the service; .* the other 6 requests"):
        judged(settings(server, requests=12))
    assert len(judged(settings(server, requests=12))) == len(ITEMS)
    assert times_asked(server) == [1] * len(ITEMS)


def test_a_batch_waits_while_the_queue_of_the_account_is_full(start_server: StartServer) -> None:
    server = start_server("--batches", "ok,full", "--batch-seconds", "0.2")
    assert {judgement.outcome for judgement in judged(settings(server, requests=6))} == {Outcome.ANSWERED}
    assert times_asked(server) == [1] * len(ITEMS)


def test_a_queue_that_no_batch_of_ours_fills_stops_the_step_with_the_setting(start_server: StartServer) -> None:
    server = start_server("--batches", "full")
    with pytest.raises(StageError, match=r"Enqueued token limit reached .*batch_limits\.requests"):
        judged(settings(server, requests=12))
    assert pending(settings(server)) == 0


def test_each_request_of_a_faulty_batch_has_one_outcome(start_server: StartServer) -> None:
    server = start_server("--faults", "0.3", "--seed", "3")
    outcomes = Counter(judgement.outcome for judgement in judged(settings(server)))
    kinds = Counter(row["kind"] for row in server.asked())
    assert outcomes[Outcome.ANSWERED] == kinds["ok"]
    assert (outcomes[Outcome.REFUSED], outcomes[Outcome.UNPARSED]) == (kinds["blocked"], kinds["length"])
    assert outcomes.total() == len(ITEMS)


def test_an_error_that_no_retry_mends_stops_the_step(start_server: StartServer) -> None:
    with pytest.raises(StageError, match=r"plugin 'openai', model 'gpt-test' .*has no model"):
        judged(settings(start_server("--always", "gone")))


def test_a_batch_whose_creation_had_no_reply_is_found_and_not_created_twice(start_server: StartServer) -> None:
    server = start_server("--batches", "lost-reply")
    assert len(judged(settings(server))) == len(ITEMS)
    assert times_asked(server) == [1] * len(ITEMS)


def test_the_budget_holds_back_requests_until_the_cost_of_the_first_batch_is_known(start_server: StartServer) -> None:
    server = start_server()
    budget = Budget(0.1)
    with pytest.raises(BudgetError, match="is used up"):
        judged(settings(server), Caller(budget=budget, run="a", stage="judge"))
    assert budget.spent == pytest.approx(Ledger().spent("a"))
    assert 0 < budget.spent <= budget.limit
    asked = len(server.asked())
    assert 0 < asked < len(ITEMS)
    enough = Caller(budget=Budget(10.0, Ledger().spent("a")), run="a", stage="judge")
    assert len(judged(settings(server), enough)) == len(ITEMS)
    assert times_asked(server) == [1] * len(ITEMS)


def test_a_stop_names_the_pending_batches_and_the_same_call_collects_them(start_server: StartServer) -> None:
    server = start_server("--batch-seconds", "1")
    asked_to_stop = time.monotonic() + 0.3
    caller = Caller(run="a", stage="judge", cancelled=lambda: time.monotonic() > asked_to_stop)
    with pytest.raises(Interrupted, match="3 batches with 12 requests continue at the service"):
        judged(settings(server), caller)
    assert pending(settings(server)) == len(ITEMS)
    budget = Budget(10.0)
    assert len(judged(settings(server), Caller(budget=budget, run="a", stage="judge"))) == len(ITEMS)
    assert times_asked(server) == [1] * len(ITEMS)
    assert budget.spent == pytest.approx(Ledger().spent("a"))
    assert budget.spent > 0
    assert pending(settings(server)) == 0


def test_another_run_waits_for_the_batches_of_the_first_and_pays_nothing(start_server: StartServer) -> None:
    server = start_server("--batch-seconds", "0.5")
    stop = Caller(run="a", stage="judge", cancelled=lambda: len(server.asked()) == len(ITEMS))
    with pytest.raises(Interrupted):
        judged(settings(server), stop)
    other = Caller(run="b", stage="judge")
    assert len(judged(settings(server), other)) == len(ITEMS)
    assert (other.tally.cost, other.tally.from_ledger) == (0.0, len(ITEMS))
    assert Ledger().spent("a") > 0
    assert Ledger().spent("b") == 0
    assert times_asked(server) == [1] * len(ITEMS)


def test_a_run_waits_while_another_process_creates_the_batch_of_its_requests(start_server: StartServer) -> None:
    """The id of the batch is not known yet: the service was asked about a batch with the id "None"."""
    server = start_server("--batch-seconds", "1")
    stop = Caller(run="a", stage="judge", cancelled=lambda: len(server.asked()) == len(ITEMS))
    with pytest.raises(Interrupted):
        judged(settings(server, requests=len(ITEMS)), stop)
    journal = BatchJournal(Ledger(), endpoint(settings(server), "gpt-test"))
    (batch,) = set(journal.pending().values())
    lock = filelock.FileLock(journal.lock_path, thread_local=False)

    def end_creation() -> None:
        journal.created(batch.name, str(batch.id))
        lock.release()

    other = threading.Timer(0.3, end_creation)  # several times as long as the wait between two questions

    def begin_creation() -> bool:
        """Is called while the run waits before its next question about the batch."""
        if other.ident is None:
            lock.acquire()
            with Ledger().transaction() as connection:
                connection.execute("UPDATE batches SET id = NULL")
            other.start()
        return False

    found = judged(settings(server, requests=len(ITEMS)), Caller(run="b", stage="judge", cancelled=begin_creation))
    other.join()
    assert (len(found), times_asked(server)) == (len(ITEMS), [1] * len(ITEMS))


@pytest.mark.parametrize("mode", ["slow-create", "ok"])
def test_a_process_killed_while_a_batch_is_created_or_pending_continues_with_it(
    start_server: StartServer, mode: str
) -> None:
    server = start_server("--batch-seconds", "1", "--batches", mode)
    program = f"import sys; sys.path[:0] = {sys.path!r}; import test_batches as t\n"
    program += f"from api_servers import ApiServer; t.judged(t.settings(ApiServer({server.port}, None), requests=12))"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}) as process:
        while len(server.asked()) < len(ITEMS):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert pending(settings(server)) == len(ITEMS)
    assert len(judged(settings(server, requests=12))) == len(ITEMS)
    assert times_asked(server) == [1] * len(ITEMS)
    assert Ledger().spent("a") > 0


def test_batches_of_a_server_whose_answers_are_not_kept_are_refused(start_server: StartServer) -> None:
    with pytest.raises(InputError, match="set `revision`"):
        judged(settings(start_server(), revision=""))


def test_a_batch_that_the_service_does_not_know_is_not_paid_for_twice(start_server: StartServer) -> None:
    server = start_server("--batch-seconds", "5")
    stop = Caller(run="a", stage="judge", cancelled=lambda: len(server.asked()) == len(ITEMS))
    with pytest.raises(Interrupted):
        judged(settings(server), stop)
    with Ledger().transaction() as connection:
        connection.execute("UPDATE batches SET id = 'batch_of_another_project'")
    with pytest.raises(StageError, match="the service does not know batch_of_another_project"):
        judged(settings(server))
    with Ledger().transaction() as connection:
        connection.execute("UPDATE batches SET asked_at = '2020-01-01T00:00:00+00:00'")
    with pytest.raises(Interrupted):
        judged(settings(server), Caller(run="a", stage="judge", cancelled=lambda: len(server.asked()) > len(ITEMS)))
