"""One request becomes one answer: from the ledger, or from attempts until one succeeds or a limit is reached."""

from __future__ import annotations

import random
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

from attrs import define

from tutelage.errors import StageError, TutelageError
from tutelage.records import Outcome
from tutelage.services.booking import STORED, Bookkeeper, stored_reply, unexpected
from tutelage.services.budget import Budget
from tutelage.services.pool import Stopped
from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unreadable, Unusable
from tutelage.services.proxies import proxy_of
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Reply, Request
from tutelage.services.shared import Shared
from tutelage.services.throttle import Slot
from tutelage.services.time_limit import TimeUp, within

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

_CONNECTION_ATTEMPTS = 3
"""Attempts to reach a service that was never reached. With the default waits they take at most three seconds."""
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
        self._books = Bookkeeper(endpoint, limits, *run_and_stage)
        self._reuse_refusals = reuse_refusals
        self._throttle = shared.throttle(endpoint, limits)

    def answer(self, request: Request[T], stopped: threading.Event) -> Answer[T]:
        """Return the answer of the ledger, or a new one.

        Raises ``Stopped`` if the pool was stopped before the request could be sent, and the errors of ``Caller.map``.
        """
        key = self._endpoint.key(request)
        with self._shared.exclusive(key) if key else nullcontext():
            stored = self._shared.ledger.find(key, self._reuse_refusals) if key else None
            if stored is not None:
                return Answer(request.about, stored_reply(stored), from_ledger=True, cost=0.0)
            with self._budget.reserved(self._books.max_cost(request)) if self._budget else nullcontext():
                return self._new_answer(request, key, stopped)

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
            return self._books.failed(request, str(problem), tries.count)
        except Unreadable as problem:
            return self._record(request, key, Reply("", Outcome.UNPARSED, str(problem)), tries)
        except Transient as problem:
            if stopped.is_set():
                raise Stopped from None
            if self._was_never_reached(problem):
                proxy = proxy_of(self._endpoint.base_url)
                remedy = f"requests go through {proxy}" if proxy else "check base_url, and that the server runs"
                raise self._books.stage_error(f"{problem} ({tries.count} attempts); {remedy}") from None
            return self._books.failed(request, f"{problem} ({tries.count} attempts)", tries.count)
        except Unusable as problem:
            raise self._books.stage_error(str(problem)) from None
        return answer

    def _was_never_reached(self, problem: BaseException | None) -> bool:
        return isinstance(problem, Transient) and problem.unreachable and not self._throttle.was_reached

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
            reply = self._books.cleaned(self._ask(request.body, timeout), request)
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
            problem.args = (self._books.shown(problem),)
            # the frames of the SDK hold the key and the body of the response: they must not outlive the attempt
            problem.__context__ = None
            raise problem.with_traceback(None) from None
        except TutelageError as error:
            stopped.set()
            raise StageError(self._endpoint.scrub(str(error))) from None
        except Exception as error:
            stopped.set()
            raise self._books.stage_error(unexpected(error)) from None
        finally:
            slot.release()

    def _record(
        self, request: Request[T], key: str | None, reply: Reply, tries: _Tries, seconds: float = 0.0
    ) -> Answer[T]:
        """Count the cost of a reply and store it; return it only afterwards.

        If the number of tokens is unknown, the estimate is booked as the cost, so that it also counts in a later run.
        """
        entry = self._books.entry(request, key, reply, seconds, tries.count)
        if self._budget:
            self._budget.spend(entry.cost or 0.0)
        if reply.outcome in STORED:
            self._shared.ledger.store(entry)
            self._books.note_success()
        return Answer(request.about, reply, attempts=tries.count, cost=entry.cost)
