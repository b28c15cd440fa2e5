"""Calls to a service: each request ends with one typed outcome, is paid once, and can be stopped."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tutelage.errors import BudgetError, InputError, StageError
from tutelage.records import Outcome
from tutelage.services import attempts, problems, throttle
from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger
from tutelage.services.prices import Price
from tutelage.services.problems import Permanent, Refused, Transient, Unreadable, Unusable, retry_after
from tutelage.services.requests import Answer, Endpoint, Limits, Reply, Request
from tutelage.services.throttle import Concurrency

SERVICE = Endpoint("shouty", "https://api.shouty.example", "loud-1")
QUICK = Limits(in_flight=4, first_wait=0.01, attempts=4)
CANARY = "sk-canary-0123456789"


class Service:
    """A service that raises the given problems first and then answers in capitals; records its requests."""

    def __init__(self, *problems: Exception, seconds: float = 0.0) -> None:
        self.asked: list[str] = []
        self.in_flight = self.max_in_flight = 0
        self._problems = list(problems)
        self._seconds = seconds
        self._lock = threading.Lock()

    def __call__(self, body: Mapping[str, Any], timeout: float) -> Reply:
        with self._lock:
            self.asked.append(body["text"])
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            problem = self._problems.pop(0) if self._problems else None
        time.sleep(self._seconds)
        with self._lock:
            self.in_flight -= 1
        if problem:
            raise problem
        return Reply(body["text"].upper(), input_tokens=10, output_tokens=5, extra={"id": "1"})


class Clock:
    """Stands still until a test changes ``now``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which attempts are measured and paced."""
    clock = Clock()
    monkeypatch.setattr(attempts, "time", clock)
    monkeypatch.setattr(throttle, "time", clock)
    return clock


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of every wait between two attempts; the waits themselves are left out."""
    seconds: list[float] = []
    monkeypatch.setattr("tenacity.sleep_using_event", lambda event: seconds.append)
    return seconds


@pytest.fixture
def paced(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that each request waits because of a limit per minute, with a clock that stands still."""
    seconds: list[float] = []
    book = throttle.Pace.book

    def booked(pace: throttle.Pace, units: float) -> float:
        wait = book(pace, units)
        if wait:
            seconds.append(wait)
        return wait

    monkeypatch.setattr(throttle.Pace, "book", booked)
    return seconds


def threads_left() -> list[str]:
    """Names of the threads of calls that do not end; the time-out only keeps a failing test from hanging."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("tutelage")]
    for thread in threads:
        thread.join(30)
    return [thread.name for thread in threads if thread.is_alive()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


@pytest.fixture
def caller(ledger: Ledger) -> Caller:
    return Caller(ledger, run="runs/a", stage="judge")


def requests(count: int) -> Iterator[Request[int]]:
    return (Request(number, {"text": f"word {number}"}) for number in range(count))


def outcomes(answers: Iterator[Answer[Any]]) -> list[tuple[Outcome, str]]:
    return [(answer.reply.outcome, answer.reply.detail) for answer in answers]


def test_every_request_gets_one_answer_with_what_it_is_about(caller: Caller) -> None:
    answers = list(caller.map(requests(50), Service(), SERVICE, QUICK))
    assert {answer.about: answer.reply.text for answer in answers} == {n: f"WORD {n}" for n in range(50)}
    assert len(answers) == 50
    assert caller.tally.outcomes == {Outcome.ANSWERED: 50}
    assert caller.tally.attempts == 50


def test_no_more_requests_are_in_flight_than_allowed(caller: Caller) -> None:
    service = Service(seconds=0.01)
    list(caller.map(requests(40), service, SERVICE, QUICK))
    assert service.max_in_flight == 4


def test_requests_are_taken_only_as_they_are_needed(caller: Caller) -> None:
    taken = Counter[str]()

    def counted() -> Iterator[Request[int]]:
        for request in requests(1000):
            taken["requests"] += 1
            yield request

    answers = caller.map(counted(), Service(), SERVICE, QUICK)
    for _ in range(10):
        next(answers)
    assert taken["requests"] <= 10 + 2 * QUICK.in_flight + 1
    answers.close()  # type: ignore[attr-defined]


def test_a_repeated_run_asks_nothing_and_costs_nothing(caller: Caller, ledger: Ledger) -> None:
    service = Service()
    first = list(caller.map(requests(20), service, SERVICE, QUICK))
    again = Caller(Ledger(ledger.path), run="runs/b")
    second = list(again.map(requests(20), service, SERVICE, QUICK))
    assert len(service.asked) == 20
    assert {a.about: a.reply for a in first} == {a.about: a.reply for a in second}
    assert (again.tally.from_ledger, again.tally.attempts, again.tally.cost) == (20, 0, 0.0)


def test_equal_requests_in_flight_are_asked_once(caller: Caller) -> None:
    service = Service(seconds=0.05)
    equal = (Request(number, {"text": "same"}) for number in range(8))
    answers = list(caller.map(equal, service, SERVICE, QUICK))
    assert service.asked == ["same"]
    assert sorted(answer.about for answer in answers) == list(range(8))


def test_samples_of_one_request_are_asked_each(caller: Caller) -> None:
    service = Service()
    list(caller.map((Request(n, {"text": "same"}, sample=n) for n in range(3)), service, SERVICE, QUICK))
    assert len(service.asked) == 3


def test_an_answer_is_in_the_ledger_before_it_is_used(caller: Caller, ledger: Ledger) -> None:
    for answer in caller.map(requests(5), Service(), SERVICE, QUICK):
        key = SERVICE.key(Request(0, {"text": f"word {answer.about}"}))
        entry = ledger.find(str(key))
        assert entry is not None
        assert (entry.run, entry.stage, entry.text) == ("runs/a", "judge", answer.reply.text)
    assert caller.tally.outcomes == {Outcome.ANSWERED: 5}


def test_a_transient_failure_is_tried_again_and_never_kept(caller: Caller, ledger: Ledger) -> None:
    service = Service(Transient("503 overloaded"), Transient("dropped"))
    (answer,) = caller.map(requests(1), service, SERVICE, QUICK)
    assert (answer.reply.text, answer.attempts, len(service.asked)) == ("WORD 0", 3, 3)
    assert [row["outcome"] for row in ledger.export()] == ["answered"]


def test_when_all_attempts_are_used_the_item_has_failed_and_is_asked_in_the_next_run(caller: Caller) -> None:
    service = Service(*(Transient("500 oops") for _ in range(4)))
    assert outcomes(caller.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.FAILED, "500 oops (4 attempts)")]
    (answer,) = caller.map(requests(1), service, SERVICE, QUICK)
    assert answer.reply.text == "WORD 0"


def test_a_permanent_failure_is_tried_once(caller: Caller, ledger: Ledger) -> None:
    service = Service(Permanent("too long"))
    assert outcomes(caller.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.FAILED, "too long")]
    assert list(ledger.export()) == []


def test_a_refusal_is_kept_and_asked_again_only_by_request(caller: Caller, ledger: Ledger) -> None:
    service = Service(Refused("not with me"), Refused("still not"))
    for _ in range(2):
        assert outcomes(caller.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.REFUSED, "not with me")]
    assert len(service.asked) == 1
    insisting = Caller(ledger, ask_refused_again=True)
    list(insisting.map(requests(1), service, SERVICE, QUICK))
    (answer,) = insisting.map(requests(1), service, SERVICE, QUICK)
    assert answer.reply.text == "WORD 0"
    assert outcomes(caller.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.ANSWERED, "")]
    assert len(service.asked) == 3


def test_an_unusable_service_stops_the_step_and_what_was_answered_is_kept(caller: Caller, ledger: Ledger) -> None:
    answered = []

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        if body["text"] == "word 9":
            raise Unusable("model loud-1 is gone")
        answered.append(body["text"])
        return Reply("fine")

    with pytest.raises(StageError, match="model loud-1 is gone"):
        list(caller.map(requests(1000), ask, SERVICE, QUICK))
    assert {str(row["request"]) for row in ledger.export()} == {f'{{"text":"{text}"}}' for text in answered}
    assert 0 < len(answered) < 100


def test_an_exception_that_the_plugin_did_not_expect_names_plugin_and_place(caller: Caller) -> None:
    with pytest.raises(
        StageError,
        match=r"plugin 'shouty', model 'loud-1' at https://api\.shouty\.example: the plugin does not handle this error"
        r": KeyError: 'text' at test_caller.py:\d+",
    ):
        list(caller.map([Request(0, {})], Service(), SERVICE, QUICK))


@pytest.mark.parametrize("problem", [Transient("502 bad gateway"), Permanent("400 bad request")])
def test_a_service_that_only_fails_stops_the_step(caller: Caller, problem: Exception) -> None:
    service = Service(*(problem for _ in range(1000)))
    limits = Limits(in_flight=2, first_wait=0.001, attempts=1, failures_in_a_row=5)
    with pytest.raises(
        StageError, match=r"no answer to 5 requests in a row, the last error is: .*(bad gateway|bad request)"
    ):
        list(caller.map(requests(100), service, SERVICE, limits))
    assert len(service.asked) < 20


def test_an_attempt_that_the_sdk_does_not_end_is_given_up(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_LATE_SECONDS", 0.05)
    may_end, ended = threading.Event(), threading.Event()

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        may_end.wait(60)
        ended.set()
        return Reply("too late")

    limits = Limits(in_flight=1, attempts=2, attempt_seconds=0.05, first_wait=0.01)
    ((outcome, detail),) = outcomes(caller.map(requests(1), ask, SERVICE, limits))
    assert not ended.is_set()
    may_end.set()
    assert outcome is Outcome.FAILED
    assert "no complete answer within" in detail


def test_an_attempt_gets_its_time_out_or_the_remaining_total_time(
    caller: Caller, clock: Clock, waits: list[float]
) -> None:
    timeouts: list[float] = []

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        timeouts.append(timeout)
        clock.now += 0.1
        raise Transient("time-out")

    limits = Limits(attempts=9, attempt_seconds=0.2, total_seconds=0.25, first_wait=0.001)
    list(caller.map(requests(1), ask, SERVICE, limits))
    assert timeouts == pytest.approx([0.2, 0.15 - waits[0], 0.05 - sum(waits)])


def test_an_unreadable_reply_is_stored_and_not_requested_again(caller: Caller, ledger: Ledger) -> None:
    service = Service(Unreadable("the reply is a list"))
    for _ in range(2):
        assert outcomes(caller.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.UNPARSED, "the reply is a list")]
    assert len(service.asked) == 1
    insisting = Caller(ledger, ask_refused_again=True)
    assert outcomes(insisting.map(requests(1), service, SERVICE, QUICK)) == [(Outcome.ANSWERED, "")]


def test_a_service_that_was_never_reached_stops_the_step_after_three_attempts(
    caller: Caller, waits: list[float]
) -> None:
    service = Service(*(Transient("refused", unreachable=True) for _ in range(9)))
    with pytest.raises(
        StageError,
        match=r"plugin 'shouty', model 'loud-1' at https://\S+: refused \(3 attempts\); check base_url, and",
    ):
        list(caller.map(requests(1), service, SERVICE, Limits(in_flight=1)))
    assert len(service.asked) == 3
    assert sum(waits) <= 3.0


@pytest.mark.parametrize("reached_by", [Transient("500"), Permanent("400"), Refused("no")])
@pytest.mark.usefixtures("waits")
def test_a_service_that_was_reached_is_tried_until_the_limit(caller: Caller, reached_by: Exception) -> None:
    limits = Limits(in_flight=1, attempts=9)
    list(caller.map(requests(1), Service(reached_by), SERVICE, limits))
    service = Service(*(Transient("refused", unreachable=True) for _ in range(7)))
    (answer,) = caller.map([Request(0, {"text": "later"})], service, SERVICE, limits)
    assert (answer.reply.outcome, answer.attempts) == (Outcome.ANSWERED, 8)


@pytest.mark.usefixtures("waits")
def test_a_service_that_answered_once_is_tried_until_the_limit(caller: Caller) -> None:
    limits = Limits(in_flight=1, attempts=9)
    list(caller.map(requests(1), Service(), SERVICE, limits))
    service = Service(*(Transient("refused", unreachable=True) for _ in range(7)))
    (answer,) = caller.map([Request(0, {"text": "later"})], service, SERVICE, limits)
    assert (answer.reply.outcome, answer.attempts) == (Outcome.ANSWERED, 8)


def test_texts_that_no_file_can_store_are_repaired(caller: Caller, ledger: Ledger) -> None:
    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        return Reply("half \ud83d, whole \ud83d\ude00", detail="\udc80", extra={"\ud83d": ["\ud83d", 10**30]})

    (answer,) = caller.map([Request(0, {"text": "odd"})], ask, SERVICE, QUICK)
    assert answer.reply.text == "half \ufffd, whole \U0001f600"
    assert (answer.reply.detail, answer.reply.extra) == ("\ufffd", {"\ufffd": ["\ufffd", 10**30]})
    assert ledger.find(str(SERVICE.key(Request(0, {"text": "odd"})))) is not None


def test_a_long_message_of_a_service_is_shortened_after_the_key_is_removed(caller: Caller) -> None:
    keyed = Endpoint("shouty", "https://api.shouty.example", "m", secret=CANARY)
    service = Service(Permanent("x" * 490 + CANARY + "y" * 10**6))
    ((_, detail),) = outcomes(caller.map(requests(1), service, keyed, QUICK))
    assert detail == "x" * 490 + "[key]" + "y" * 5 + "..."


def test_retry_after_is_honoured(caller: Caller, waits: list[float]) -> None:
    list(caller.map(requests(1), Service(Transient("429", retry_after=0.4, too_fast=True)), SERVICE, QUICK))
    (seconds,) = waits
    assert 0.4 <= seconds <= 0.4 + QUICK.first_wait


def test_a_retry_after_beyond_the_total_time_fails_at_once(caller: Caller, waits: list[float]) -> None:
    service = Service(Transient("429", retry_after=3600.0))
    ((outcome, _),) = outcomes(caller.map(requests(1), service, SERVICE, QUICK))
    assert outcome is Outcome.FAILED
    assert (len(service.asked), waits) == (1, [])


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("", None)])
def test_retry_after_is_read_as_seconds(header: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": header}) == seconds


def test_retry_after_is_read_as_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    assert retry_after({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}) == 60.0


def test_the_limit_falls_after_an_overload_and_rises_after_successes() -> None:
    concurrency = Concurrency(16)
    concurrency.decrease(started=time.monotonic())
    concurrency.decrease(started=0.0)  # ignored: this request started before the last decrease
    assert concurrency.limit == pytest.approx(8)
    for _ in range(200):
        concurrency.increase()
    assert concurrency.limit == 16
    for _ in range(50):
        concurrency.decrease(started=math.inf)  # after every earlier decrease
    assert concurrency.limit == 1


def test_a_service_that_takes_three_at_once_is_soon_asked_about_three_at_once(caller: Caller) -> None:
    lock, replies = threading.Lock(), []
    at_once = 0

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        nonlocal at_once
        with lock:
            at_once += 1
            too_many = at_once > 3
        time.sleep(0.01)
        with lock:
            at_once -= 1
        replies.append("429" if too_many else "fine")
        if too_many:
            raise Transient("429", too_fast=True)
        return Reply("fine")

    limits = Limits(in_flight=16, first_wait=0.01, attempts=50)
    answers = list(caller.map(requests(150), ask, SERVICE, limits))
    assert len(answers) == 150
    settled = replies[len(replies) // 2 :]
    assert settled.count("429") < len(settled) / 3  # 13 of 16 if the limit did not adapt


def test_requests_per_minute_are_spread_evenly(caller: Caller, paced: list[float]) -> None:
    list(caller.map(requests(6), Service(), SERVICE, Limits(requests_per_minute=6000)))
    assert sorted(paced) == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])


def test_tokens_per_minute_are_counted_as_the_service_counts_them(caller: Caller, paced: list[float]) -> None:
    limits = Limits(in_flight=1, tokens_per_minute=60 * 1000)  # 15 tokens per request take 0.015 s
    list(
        caller.map(
            (Request(n, {"text": f"word {n}"}, max_output_tokens=1) for n in range(4)), Service(), SERVICE, limits
        )
    )
    assert paced == pytest.approx([0.015, 0.03, 0.045])


def test_when_the_user_asks_to_stop_what_is_in_flight_is_yielded_and_no_more(ledger: Ledger) -> None:
    stop = threading.Event()
    service = Service(seconds=0.05)
    got = []
    for answer in Caller(ledger, cancelled=stop.is_set).map(requests(1000), service, SERVICE, QUICK):
        got.append(answer)
        stop.set()
    assert len(got) == len(service.asked) < 20


def test_on_ctrl_c_the_answers_in_flight_are_kept_and_waits_end_at_once(caller: Caller, ledger: Ledger) -> None:
    service = Service(Transient("429", retry_after=300.0), seconds=0.1)
    with pytest.raises(KeyboardInterrupt):
        for _ in caller.map(requests(1000), service, SERVICE, QUICK):
            raise KeyboardInterrupt
    assert threads_left() == []  # the thread that was to wait 300 s has ended too
    assert len(list(ledger.export())) == len(service.asked) - 1


def test_a_request_that_waits_for_a_slot_is_not_sent_after_ctrl_c(caller: Caller) -> None:
    gate, asked = threading.Event(), Counter[str]()

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        asked[body["text"]] += 1
        if body["text"] != "word 0":
            gate.wait(30)
        return Reply("done")

    with pytest.raises(KeyboardInterrupt):
        for _ in caller.map(requests(4), ask, SERVICE, Limits(in_flight=2)):
            while len(asked) < 3:
                time.sleep(0.001)
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt
    assert threads_left() == []
    assert len(asked) == 3


def test_an_error_in_the_stream_of_requests_is_raised_and_answers_are_kept(caller: Caller, ledger: Ledger) -> None:
    def broken() -> Iterator[Request[int]]:
        yield from requests(3)
        raise ValueError("line 4 is no JSON")

    service = Service(seconds=0.05)
    with pytest.raises(ValueError, match="line 4"):
        list(caller.map(broken(), service, SERVICE, QUICK))
    assert len(list(ledger.export())) == len(service.asked)


def test_no_thread_is_left_behind(caller: Caller) -> None:
    list(caller.map(requests(50), Service(), SERVICE, QUICK))
    assert threads_left() == []


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "http://127.0.0.1:11434", "http://[::1]/v1", "0.0.0.0:80"])
def test_a_server_on_this_machine_is_kept_only_with_a_revision(caller: Caller, ledger: Ledger, url: str) -> None:
    service = Service()
    for _ in range(2):
        list(caller.map(requests(1), service, Endpoint("shouty", url, "m"), QUICK))
    assert len(service.asked) == 2
    assert [(row["text"], row["request"], row["extra"]) for row in ledger.export()] == [("", "", "{}")] * 2
    for _ in range(2):
        list(caller.map(requests(1), service, Endpoint("shouty", url, "m", revision="sha-1"), QUICK))
    assert len(service.asked) == 3


def test_the_same_question_to_other_weights_is_asked_again(caller: Caller) -> None:
    service = Service()
    for revision in ("1", "2"):
        list(caller.map(requests(1), service, Endpoint("shouty", "http://localhost", "m", revision), QUICK))
    assert len(service.asked) == 2


PRICED = Endpoint("shouty", "https://api.shouty.example", "loud-1", price=Price(input=1e5, output=2e5))
EACH = 10 * 0.1 + 5 * 0.2
"""US dollars for one request of 10 input tokens and 5 output tokens."""


def small(count: int) -> Iterator[Request[int]]:
    """Requests of 10 input tokens by ``Request.input_tokens`` and at most 5 output tokens, as ``counting`` replies."""
    return (
        Request(number, {"t": number, "text": "x" * (11 - len(str(number)))}, max_output_tokens=5)
        for number in range(count)
    )


def counting(asked: list[Any]) -> Callable[[Mapping[str, Any], float], Reply]:
    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        asked.append(body["t"])
        time.sleep(0.005)
        return Reply("fine", input_tokens=10, output_tokens=5)

    return ask


def test_at_half_of_the_known_cost_the_budget_stops_and_a_higher_one_goes_on(ledger: Ledger) -> None:
    asked: list[Any] = []
    budget = Budget(20 * EACH / 2)
    got: list[Answer[int]] = []
    with pytest.raises(BudgetError, match=r"budget of \$20.0000 is used up: \$20.0000 is spent") as caught:
        got.extend(Caller(ledger, budget, run="runs/a").map(small(20), counting(asked), PRICED, QUICK))
    assert caught.value.exit_code == 5
    assert len(got) == len(asked) == 10
    assert budget.spent <= budget.limit
    higher = Budget(20 * EACH, spent=ledger.spent("runs/a"))
    answers = list(Caller(ledger, higher, run="runs/a").map(small(20), counting(asked), PRICED, QUICK))
    assert len(answers) == 20
    assert sorted(asked) == list(range(20))
    assert ledger.spent("runs/a") == pytest.approx(20 * EACH)


@pytest.mark.parametrize("limit", [math.nan, -1.0, -math.inf])
def test_a_budget_that_is_no_amount_is_an_error(limit: float) -> None:
    with pytest.raises(InputError, match="the budget must be a number of US dollars of at least 0"):
        Budget(limit)


def test_a_budget_with_an_unknown_price_is_an_error_before_the_first_request(ledger: Ledger) -> None:
    service = Service()
    with pytest.raises(InputError, match=r"price of 'loud-1' at https://api\.shouty\.example is unknown"):
        list(Caller(ledger, Budget(1.0)).map(requests(1), service, SERVICE, QUICK))
    assert service.asked == []


def test_a_known_price_is_never_counted_as_unknown(caller: Caller, ledger: Ledger) -> None:
    for _ in range(2):  # the second time, the answer is in the ledger
        list(caller.map(small(1), counting([]), PRICED, QUICK))
    assert caller.tally.unknown == 0
    assert caller.tally.cost == pytest.approx(EACH)
    assert caller.tally.from_ledger == 1


def test_an_unknown_price_is_counted_as_unknown(caller: Caller, ledger: Ledger) -> None:
    (answer,) = caller.map(requests(1), Service(), SERVICE, QUICK)
    assert answer.cost is None
    assert caller.tally.unknown == 1
    assert ledger.spend(by=("run",))[0].unknown == 1


def test_known_models_have_prices_at_their_own_address_only() -> None:
    assert Endpoint("openai", "https://api.openai.com/v1", "gpt-4-turbo").cost(1_000_000, 0) == 10.0
    assert Endpoint("openai", "https://proxy.example/v1", "gpt-4-turbo").cost(1_000_000, 0) is None
    assert Endpoint("openai", "https://api.openai.com/v1", "gpt-99-imagined").cost(1, 1) is None


def test_the_key_is_struck_from_answers_and_every_error(caller: Caller, ledger: Ledger) -> None:
    keyed = Endpoint("shouty", "https://api.shouty.example", "m", secret=CANARY)
    assert CANARY not in repr(keyed)
    problems = (Transient(f"a {CANARY}"), Permanent(f"b {CANARY}"), Refused(f"c {CANARY}"))
    for problem in problems:
        ((_, detail),) = outcomes(caller.map(requests(1), Service(problem), keyed, Limits(attempts=1)))
        assert "[key]" in detail
        assert CANARY not in detail
    for error in (Unusable(f"d {CANARY}"), RuntimeError(f"e {CANARY}")):
        with pytest.raises(StageError, match=r"\[key\]") as caught:
            list(caller.map([Request(0, {"text": str(error)[:1]})], Service(error), keyed, QUICK))
        assert caught.value.__suppress_context__
        assert CANARY not in str(caught.value)

    def echo(body: Mapping[str, Any], timeout: float) -> Reply:
        return Reply(f"f {CANARY}", extra={"header": CANARY})

    (answer,) = caller.map([Request(0, {"text": "echo"})], echo, keyed, QUICK)
    assert (answer.reply.text, answer.reply.extra) == ("f [key]", {"header": "[key]"})
    ledger.close()
    assert CANARY.encode() not in ledger.path.read_bytes()


def test_a_local_servers_dummy_key_is_not_struck_from_answers(caller: Caller) -> None:
    keyed = Endpoint("shouty", "http://localhost", "m", secret="EMPTY")
    (answer,) = caller.map([Request(0, {"text": "empty"})], Service(), keyed, QUICK)
    assert answer.reply.text == "EMPTY"
