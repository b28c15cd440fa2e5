"""How one request becomes one answer: the ledger first, then attempts until there is one or the limits are used up."""

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
from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unusable
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Reply, Request
from tutelage.services.shared import Shared
from tutelage.services.throttle import Place
from tutelage.services.time_limit import TimeUp, within

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

STORED = (Outcome.ANSWERED, Outcome.CUT, Outcome.REFUSED)
"""What the ledger keeps. A failure may be gone the next time."""
_LATE_SECONDS = 5.0
"""How long after its time-out an attempt is given up that the SDK itself does not end (a server that drips)."""
_LONGEST_WAIT = 60.0
"""Seconds at which the doubling between attempts ends."""


@define
class _Tries:
    """What one request has taken so far."""

    count: int = 0
    seconds: float = 0.0
    """In attempts, without the waits for a free place."""


class Calls:
    """The calls of one ``map``, made by several threads."""

    def __init__(
        self,
        shared: Shared,
        ask: Ask,
        endpoint: Endpoint,
        limits: Limits,
        budget: Budget | None,
        asker: tuple[str, str],
        refusals: bool,
    ) -> None:
        """``asker`` is (run, stage), ``refusals`` whether a kept refusal is an answer."""
        self._shared = shared
        self._ask = ask
        self._endpoint = endpoint
        self._limits = limits
        self._budget = budget
        self._asker = asker
        self._refusals = refusals
        self._throttle = shared.throttle(endpoint, limits)
        self._failures_in_a_row = 0
        self._counting = threading.Lock()

    def answer(self, request: Request[T], stopped: threading.Event) -> Answer[T]:
        """The kept answer, or a new one. Raises ``Stopped`` where it would have to begin after the stop."""
        key = self._endpoint.key(request)
        with self._shared.turn(key) if key else nullcontext():
            kept = self._shared.ledger.find(key, self._refusals) if key else None
            if kept is not None:
                return Answer(request.about, _kept_reply(kept), from_ledger=True, cost=0.0)
            with self._budget.reserved(self._most(request)) if self._budget else nullcontext():
                return self._asked(request, key, stopped)

    def _most(self, request: Request[Any]) -> float:
        """US dollars that the request may cost; ``map`` has seen to it that the price is known."""
        return self._endpoint.cost(request.input_tokens, request.max_output_tokens) or 0.0

    def _asked(self, request: Request[T], key: str | None, stopped: threading.Event) -> Answer[T]:
        tries = _Tries()
        try:
            for attempt in self._retrying(tries, stopped):
                with attempt:
                    seconds = self._limits.total_seconds - tries.seconds - attempt.retry_state.idle_for
                    answer = self._attempt(request, key, tries, seconds, stopped)
        except Refused as refusal:
            return self._settled(request, key, Reply("", Outcome.REFUSED, str(refusal)), tries)
        except Permanent as problem:
            return self._failed(request, str(problem), tries)
        except Transient as problem:
            if stopped.is_set():
                raise Stopped from None
            return self._failed(request, f"{problem} ({tries.count} attempts)", tries)
        except Unusable as problem:
            raise StageError(self._endpoint.scrub(str(problem))) from None
        return answer

    def _retrying(self, tries: _Tries, stopped: threading.Event) -> tenacity.Retrying:
        import tenacity

        limits = self._limits

        def used_up(state: tenacity.RetryCallState) -> bool:
            seconds = tries.seconds + state.idle_for + state.upcoming_sleep
            return state.attempt_number >= limits.attempts or seconds >= limits.total_seconds

        backoff = tenacity.wait_random_exponential(multiplier=limits.first_wait, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            problem = state.outcome.exception() if state.outcome else None
            asked_for = getattr(problem, "retry_after", None)
            return backoff(state) if asked_for is None else asked_for + random.uniform(0.0, limits.first_wait)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=used_up,
            wait=wait,
            sleep=tenacity.sleep_using_event(stopped),
            reraise=True,
        )

    def _attempt(
        self, request: Request[T], key: str | None, tries: _Tries, seconds: float, stopped: threading.Event
    ) -> Answer[T]:
        """One attempt, when there is a place in flight for it."""
        place = self._throttle.enter(request.input_tokens + request.max_output_tokens, stopped)
        if stopped.is_set():
            place.leave()
            raise Stopped
        tries.count += 1
        timeout = min(self._limits.attempt_seconds, seconds)
        try:
            return within(timeout + _LATE_SECONDS, lambda: self._sent(request, key, tries, timeout, place, stopped))
        except TimeUp:
            raise Transient(f"no whole answer within {timeout + _LATE_SECONDS:g} s") from None
        finally:
            place.leave()
            tries.seconds += time.monotonic() - place.started

    def _sent(
        self,
        request: Request[T],
        key: str | None,
        tries: _Tries,
        timeout: float,
        place: Place,
        stopped: threading.Event,
    ) -> Answer[T]:
        """Ask and store. It runs to its end even where its time was up: a late answer is paid, and kept.

        The place is left when the answer is stored, so that a kill loses no more answers than there are places. What
        ends the step stops it before that, so that no further request takes the place.
        """
        try:
            reply = self._ask(request.body, timeout)
            seconds = time.monotonic() - place.started
            place.faster(None if reply.input_tokens is None else reply.input_tokens + (reply.output_tokens or 0))
            return self._settled(request, key, reply, tries, seconds)
        except CallError as problem:
            if isinstance(problem, Transient) and problem.too_fast:
                place.slower()
            if isinstance(problem, Unusable):
                stopped.set()
            problem.args = (self._endpoint.scrub(str(problem)),)
            raise
        except Exception as error:
            stopped.set()
            raise StageError(self._endpoint.scrub(self._surprise(error))) from None
        finally:
            place.leave()

    def _settled(
        self, request: Request[T], key: str | None, reply: Reply, tries: _Tries, seconds: float = 0.0
    ) -> Answer[T]:
        """Store a reply, count its cost, and only then let it be used."""
        reply = self._scrubbed(reply)
        cost = self._endpoint.cost(reply.input_tokens, reply.output_tokens)
        if self._budget:
            self._budget.spend(self._most(request) if cost is None else cost)
        if reply.outcome in STORED:
            self._shared.ledger.store(self._entry(request, key, reply, cost, seconds, tries.count))
            with self._counting:
                self._failures_in_a_row = 0
        return Answer(request.about, reply, attempts=tries.count, cost=cost)

    def _entry(
        self, request: Request[Any], key: str | None, reply: Reply, cost: float | None, seconds: float, attempts: int
    ) -> Entry:
        """The ledger's row. An answer that must not be used again leaves only its cost there."""
        run, stage = self._asker
        entry = Entry(
            key=key,
            provider=self._endpoint.provider,
            base_url=self._endpoint.base_url,
            model=self._endpoint.model,
            revision=self._endpoint.revision,
            request=request.text,
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
        """A failed item, or, where that has become the rule, the end of the step: it can't be the items."""
        with self._counting:
            self._failures_in_a_row += 1
            enough = self._failures_in_a_row >= self._limits.failures_in_a_row
        if enough:
            raise StageError(
                f"{self._endpoint.model!r} at {self._endpoint.base_url} gave no answer to "
                f"{self._limits.failures_in_a_row} requests in a row, the last time: {detail}; what was answered is "
                "kept, and the same command goes on from here"
            ) from None
        return Answer(request.about, Reply("", Outcome.FAILED, detail), attempts=tries.count, cost=0.0)

    def _scrubbed(self, reply: Reply) -> Reply:
        scrub = self._endpoint.scrub
        extra = json.loads(scrub(json.dumps(dict(reply.extra))))
        return evolve(reply, text=scrub(reply.text), detail=scrub(reply.detail), extra=extra)

    def _surprise(self, error: Exception) -> str:
        if isinstance(error, TutelageError):
            return str(error)
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return (
            f"plugin {self._endpoint.provider!r} did not expect this of {self._endpoint.base_url}: "
            f"{type(error).__name__}: {error}{place}"
        )


def _kept_reply(entry: Entry) -> Reply:
    return Reply(
        entry.text, entry.outcome, entry.detail, entry.input_tokens, entry.output_tokens, json.loads(entry.extra)
    )
