"""One request becomes one answer: from the ledger, or from attempts until one succeeds or a limit is reached."""

from __future__ import annotations

import json
import random
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve

from tutelage.errors import StageError, TutelageError
from tutelage.records import Outcome
from tutelage.services.budget import Budget
from tutelage.services.ledger import Entry
from tutelage.services.pool import Stopped
from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unreadable, Unusable
from tutelage.services.proxies import proxy_of
from tutelage.services.redaction import redact_values
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Reply, Request
from tutelage.services.shared import Shared
from tutelage.services.throttle import Slot
from tutelage.services.time_limit import TimeUp, within
from tutelage.services.usage import with_plausible_counts

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

STORED = (Outcome.ANSWERED, Outcome.CUT, Outcome.REFUSED, Outcome.UNPARSED)
"""Outcomes that the ledger stores. Failures are not stored, because a later request may succeed."""
_CONNECTION_ATTEMPTS = 3
"""Attempts to reach a service that was never reached. With the default waits they take at most three seconds."""
_LONGEST_DETAIL = 500
"""Characters of a service's message that are kept. A message may be as long as the largest response."""
_LATE_SECONDS = 5.0
"""How long after its time-out an attempt is abandoned if the SDK does not end it (a server that sends very slowly)."""
_LONGEST_WAIT = 60.0
"""Maximum wait between two attempts, in seconds: the upper limit of the exponential backoff."""


@define
class _Tries:
    """Attempts of one request so far."""

    count: int = 0
    seconds: float = 0.0
    """Time spent in attempts, without the time spent waiting for a free slot."""


class Calls:
    """Answers the requests of one ``Caller.map``. Used by several threads."""

    def __init__(
        self,
        shared: Shared,
        ask: Ask,
        endpoint: Endpoint,
        limits: Limits,
        budget: Budget | None,
        run_and_stage: tuple[str, str],
        reuse_refusals: bool,
    ) -> None:
        """``reuse_refusals``: whether a refusal in the ledger is used as the answer."""
        self._shared = shared
        self._ask = ask
        self._endpoint = endpoint
        self._limits = limits
        self._budget = budget
        self._run_and_stage = run_and_stage
        self._reuse_refusals = reuse_refusals
        self._throttle = shared.throttle(endpoint, limits)
        self._failures_in_a_row = 0
        self._counting = threading.Lock()

    def answer(self, request: Request[T], stopped: threading.Event) -> Answer[T]:
        """Return the answer of the ledger, or a new one.

        Raises ``Stopped`` if the pool was stopped before the request could be sent, and the errors of ``Caller.map``.
        """
        key = self._endpoint.key(request)
        with self._shared.exclusive(key) if key else nullcontext():
            stored = self._shared.ledger.find(key, self._reuse_refusals) if key else None
            if stored is not None:
                return Answer(request.about, _stored_reply(stored), from_ledger=True, cost=0.0)
            with self._budget.reserved(self._max_cost(request)) if self._budget else nullcontext():
                return self._new_answer(request, key, stopped)

    def _max_cost(self, request: Request[Any]) -> float:
        """Estimated maximum cost in US dollars. With a budget, ``Caller.map`` has checked that the price is known."""
        return self._endpoint.cost(request.input_tokens, request.max_output_tokens) or 0.0

    def _new_answer(self, request: Request[T], key: str | None, stopped: threading.Event) -> Answer[T]:
        tries = _Tries()
        try:
            for attempt in self._retrying(tries, stopped):
                with attempt:
                    seconds = self._limits.total_seconds - tries.seconds - attempt.retry_state.idle_for
                    answer = self._attempt(request, key, tries, seconds, stopped)
        except Refused as refusal:
            return self._record(request, key, Reply("", Outcome.REFUSED, str(refusal)), tries)
        except Permanent as problem:
            return self._failed(request, str(problem), tries)
        except Unreadable as problem:
            return self._record(request, key, Reply("", Outcome.UNPARSED, str(problem)), tries)
        except Transient as problem:
            if stopped.is_set():
                raise Stopped from None
            if self._was_never_reached(problem):
                proxy = proxy_of(self._endpoint.base_url)
                remedy = f"requests go through {proxy}" if proxy else "check base_url, and that the server runs"
                raise self._stage_error(f"{problem} ({tries.count} attempts); {remedy}") from None
            return self._failed(request, f"{problem} ({tries.count} attempts)", tries)
        except Unusable as problem:
            raise self._stage_error(str(problem)) from None
        return answer

    def _was_never_reached(self, problem: BaseException | None) -> bool:
        return isinstance(problem, Transient) and problem.unreachable and not self._throttle.was_reached

    def _stage_error(self, problem: str) -> StageError:
        """An error that ends the step. It names plugin, model and address."""
        called = self._endpoint
        return StageError(
            called.scrub(f"plugin {called.provider!r}, model {called.model!r} at {called.base_url}: {problem}")
        )

    def _retrying(self, tries: _Tries, stopped: threading.Event) -> tenacity.Retrying:
        import tenacity

        limits = self._limits

        def limit_reached(state: tenacity.RetryCallState) -> bool:
            seconds = tries.seconds + state.idle_for + state.upcoming_sleep
            never_reached = self._was_never_reached(state.outcome.exception() if state.outcome else None)
            attempts = min(limits.attempts, _CONNECTION_ATTEMPTS) if never_reached else limits.attempts
            return state.attempt_number >= attempts or seconds >= limits.total_seconds

        backoff = tenacity.wait_random_exponential(multiplier=limits.first_wait, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            problem = state.outcome.exception() if state.outcome else None
            retry_after = getattr(problem, "retry_after", None)
            return backoff(state) if retry_after is None else retry_after + random.uniform(0.0, limits.first_wait)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=limit_reached,
            wait=wait,
            sleep=tenacity.sleep_using_event(stopped),
            reraise=True,
        )

    def _attempt(
        self, request: Request[T], key: str | None, tries: _Tries, seconds: float, stopped: threading.Event
    ) -> Answer[T]:
        """One attempt, after a slot for a request in flight has become free."""
        slot = self._throttle.enter(request.input_tokens + request.max_output_tokens, stopped)
        if stopped.is_set():
            slot.release()
            raise Stopped
        tries.count += 1
        timeout = min(self._limits.attempt_seconds, seconds)
        try:
            return within(timeout + _LATE_SECONDS, lambda: self._send(request, key, tries, timeout, slot, stopped))
        except TimeUp:
            raise Transient(f"no complete answer within {timeout + _LATE_SECONDS:g} s") from None
        finally:
            slot.release()
            tries.seconds += time.monotonic() - slot.started

    def _send(
        self,
        request: Request[T],
        key: str | None,
        tries: _Tries,
        timeout: float,
        slot: Slot,
        stopped: threading.Event,
    ) -> Answer[T]:
        """Send the request and store the answer. Runs to its end after a time-out, because a late answer is paid, too.

        The slot is released after the answer is stored, so that a kill loses at most as many answers as there are
        slots. An error that ends the step sets ``stopped`` before that, so that no further request takes the slot.
        """
        try:
            reply = self._cleaned(self._ask(request.body, timeout), request)
            self._throttle.was_reached = True
            seconds = time.monotonic() - slot.started
            slot.report_answer(None if reply.input_tokens is None else reply.input_tokens + (reply.output_tokens or 0))
            return self._record(request, key, reply, tries, seconds)
        except CallError as problem:
            if not (isinstance(problem, Transient) and problem.unreachable):
                self._throttle.was_reached = True
            if isinstance(problem, Transient) and problem.too_fast:
                slot.report_overload()
            if isinstance(problem, Unusable):
                stopped.set()
            problem.args = (_shortened(self._endpoint.scrub(str(problem))),)
            # the frames of the SDK hold the key and the body of the response: they must not outlive the attempt
            problem.__context__ = None
            raise problem.with_traceback(None) from None
        except TutelageError as error:
            stopped.set()
            raise StageError(self._endpoint.scrub(str(error))) from None
        except Exception as error:
            stopped.set()
            raise self._stage_error(_unexpected(error)) from None
        finally:
            slot.release()

    def _record(
        self, request: Request[T], key: str | None, reply: Reply, tries: _Tries, seconds: float = 0.0
    ) -> Answer[T]:
        """Count the cost of a reply and store it; return it only afterwards.

        If the number of tokens is unknown, the estimate is booked as the cost, so that it also counts in a later run.
        """
        cost = self._endpoint.cost(reply.input_tokens, reply.output_tokens)
        if cost is None:
            cost = self._endpoint.cost(request.input_tokens, request.max_output_tokens)
        if self._budget:
            self._budget.spend(cost or 0.0)
        if reply.outcome in STORED:
            self._shared.ledger.store(self._entry(request, key, reply, cost, seconds, tries.count))
            with self._counting:
                self._failures_in_a_row = 0
        return Answer(request.about, reply, attempts=tries.count, cost=cost)

    def _entry(
        self, request: Request[Any], key: str | None, reply: Reply, cost: float | None, seconds: float, attempts: int
    ) -> Entry:
        """The row for the ledger. Without a key, texts are left out: only the cost of such an answer is recorded."""
        run, stage = self._run_and_stage
        entry = Entry(
            key=key,
            provider=self._endpoint.provider,
            base_url=self._endpoint.base_url,
            model=self._endpoint.model,
            revision=self._endpoint.revision,
            request=_encodable(request.text),
            sample=request.sample,
            outcome=reply.outcome,
            text=reply.text,
            detail=reply.detail,
            extra=json.dumps(dict(reply.extra), ensure_ascii=False),
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cost=cost,
            seconds=round(seconds, 3),
            attempts=attempts,
            run=run,
            stage=stage,
        )
        return entry if key else evolve(entry, request="", text="", extra="{}")

    def _failed(self, request: Request[T], detail: str, tries: _Tries) -> Answer[T]:
        """A failed answer. Raises ``StageError`` after too many failures in a row: then the service is the cause."""
        with self._counting:
            self._failures_in_a_row += 1
            too_many = self._failures_in_a_row >= self._limits.failures_in_a_row
        if too_many:
            raise self._stage_error(
                f"no answer to {self._limits.failures_in_a_row} requests in a row, the last error is: {detail}; "
                "answers are kept, and the same command continues from here"
            ) from None
        return Answer(request.about, Reply("", Outcome.FAILED, detail), attempts=tries.count, cost=0.0)

    def _cleaned(self, reply: Reply, request: Request[Any]) -> Reply:
        """The reply without the key, without characters that no file can store, and with plausible token counts."""
        secret = self._endpoint.secret
        text, detail, extra = (
            _encodable(redact_values(value, secret)) for value in (reply.text, reply.detail, dict(reply.extra))
        )
        cleaned = evolve(reply, text=text, detail=_shortened(detail), extra=extra)
        return with_plausible_counts(cleaned, request)


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_DETAIL else f"{message[:_LONGEST_DETAIL]}..."


def _encodable(value: Any) -> Any:
    """A plain JSON value in which every lone surrogate is a replacement character: UTF-8 cannot encode surrogates."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def _unexpected(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    location = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"the plugin does not handle this error: {type(error).__name__}: {error}{location}"


def _stored_reply(entry: Entry) -> Reply:
    return Reply(
        entry.text, entry.outcome, entry.detail, entry.input_tokens, entry.output_tokens, json.loads(entry.extra)
    )
