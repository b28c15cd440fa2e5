"""Requests in batches: the service answers many requests together within a day, at a lower price.

No request is paid for twice. A batch is recorded in the ledger's file before it is created at the service
(``batch_journal``), its price is reserved in the budget before that, and its answers are stored in one transaction.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol, TypeVar

from attrs import evolve

from tutelage.errors import InputError, Interrupted, StageError, TutelageError
from tutelage.records import Outcome
from tutelage.services.batch_journal import BatchJournal, PendingBatch
from tutelage.services.batch_service import BatchService, BatchStatus
from tutelage.services.booking import Bookkeeper, stored_reply, unexpected
from tutelage.services.budget import Budget
from tutelage.services.ledger import Entry, Ledger
from tutelage.services.problems import CallError, Refused, Transient, Unreadable, Unusable
from tutelage.services.requests import BATCH_PRICE, Answer, Endpoint, Limits, Reply, Request

T = TypeVar("T")

_ROUNDS = 3
"""Number of batches in which a request is sent before it has failed."""
_LINE_BYTES = 512
"""Bytes of a request in a batch in addition to its body."""
_LONGEST_WAIT = 60.0
"""Maximum wait before a control request is repeated, in seconds."""
_LOST_HOURS = 48.0
"""Hours after which a batch that the service does not know is submitted again. A batch ends within 24 hours."""
_NOTED_SHARE = 0.1
"""A line about the progress is written when this share of the requests was answered since the last line."""


class Asker(Protocol):
    """What batches need of the caller."""

    run: str
    stage: str
    ask_refused_again: bool
    cancelled: Callable[[], bool]
    note: Callable[[str], object]


class BatchCalls:
    """The calls of one ``Caller.map_in_batches``."""

    def __init__(
        self,
        ledger: Ledger,
        service: BatchService,
        endpoint: Endpoint,
        limits: Limits,
        budget: Budget | None,
        caller: Asker,
    ) -> None:
        """Raises ``InputError`` if the answers of the endpoint are not kept."""
        if not endpoint.kept:
            raise InputError(
                f"plugin {endpoint.provider!r}: batches need answers that are kept, and those of a server on this "
                f"machine are kept only if its weights have a name; set `revision` for {endpoint.base_url}, or "
                "`batch: false`"
            )
        self._ledger = ledger
        self._journal = BatchJournal(ledger, endpoint)
        self._service = service
        self._endpoint = endpoint
        self._limits = limits
        self._budget = budget
        self._caller = caller
        self._books = Bookkeeper(endpoint, limits, caller.run, caller.stage, BATCH_PRICE)
        self._waiting: dict[str, list[Request[Any]]] = {}
        """The requests without an answer, by key."""
        self._rounds: Counter[str] = Counter()
        """Number of batches in which a request was not answered, by key."""
        self._reserved: dict[str, ExitStack] = {}
        """The reservations in the budget of the batches of this run, by name."""
        self._queue_is_full = False
        self._ended = 0
        """Number of batches that were collected."""
        self._noted = ("", 0)
        """The batches and the number of answered requests in the last line about the progress."""

    def answers(self, requests: Iterable[Request[T]]) -> Iterator[Answer[T]]:
        """Yield the answer of each request, in any order."""
        for request in requests:
            key = str(self._endpoint.key(request))
            if key in self._waiting:
                self._waiting[key].append(request)
            elif (stored := self._stored(key)) is not None:
                yield Answer(request.about, stored_reply(stored), from_ledger=True, cost=0.0)
            else:
                self._waiting[key] = [request]
        try:
            while self._waiting:
                for entry in self._submit():
                    yield from self._answers(entry, is_own=False)
                for batch, status in self._wait():
                    yield from self._collect(batch, status)
        except KeyboardInterrupt:
            self._caller.note(self._left_at_the_service())
            raise
        finally:
            for reservation in self._reserved.values():
                reservation.close()

    def _stored(self, key: str) -> Entry | None:
        return self._ledger.find(key, not self._caller.ask_refused_again)

    def _submit(self) -> list[Entry]:
        """Submit the requests that are in no batch, as far as the budget allows it.

        Returns the answers that another process has stored since the ledger was searched.
        """
        with self._only_this_process():
            for batch in set(self._journal.pending().values()):
                self._find_again(batch)
            pending = self._journal.pending()
            free, stored = deque[str](), list[Entry]()
            for key in self._waiting:
                if key not in pending:
                    entry = self._stored(key)
                    free.append(key) if entry is None else stored.append(entry)
            is_waiting = bool(self._waiting.keys() & pending.keys())
            while free and not (self._queue_is_full and is_waiting):
                self._stop_if_cancelled()
                group, max_cost = self._next_group(free)
                if not group:
                    if is_waiting or stored:
                        break
                    raise self._budget.exceeded(max_cost)  # type: ignore[union-attr]  # only a budget leaves none
                self._create(group, max_cost)
                is_waiting = True
        return stored

    @contextmanager
    def _only_this_process(self) -> Iterator[None]:
        """Hold the lock under which batches are recorded and created."""
        import filelock

        lock = filelock.FileLock(self._journal.lock_path)
        while not lock.is_locked:
            with suppress(filelock.Timeout):
                lock.acquire(timeout=0)
            if not lock.is_locked:
                self._sleep(0.2)
        try:
            yield
        finally:
            lock.release()

    def _find_again(self, batch: PendingBatch) -> None:
        """Complete the record of a batch of an earlier process, and reserve its price in the budget of its run.

        If the process was killed before the service had created the batch, the record is deleted.
        """
        if batch.id is None:
            id = self._reliably(lambda: self._service.find(batch.name))
            if id is None:
                self._journal.settle(batch.name)
                return
            self._journal.created(batch.name, id)
        if batch.run == self._caller.run and batch.name not in self._reserved:
            self._reserve(batch)
            self._caller.note(f"batches: the batch that was submitted at {batch.asked_at} is continued")

    def _reserve(self, batch: PendingBatch) -> None:
        self._reserved[batch.name] = ExitStack()
        if self._budget:
            self._reserved[batch.name].enter_context(self._budget.held(batch.max_cost))

    def _release(self, name: str) -> None:
        if reservation := self._reserved.pop(name, None):
            reservation.close()

    def _next_group(self, free: deque[str]) -> tuple[dict[str, Request[Any]], float]:
        """Take the requests of the next batch from ``free``; return them with their maximum cost.

        If the first request could exceed the budget, none is taken, and the cost is that of this request.
        """
        group: dict[str, Request[Any]] = {}
        size, cost = 0, 0.0
        while free and len(group) < min(self._service.most_requests, self._service.limits.requests):
            request = self._waiting[free[0]][0]
            size += request.byte_count + _LINE_BYTES
            more = self._books.max_cost(request)
            if group and size > self._service.most_bytes:
                break
            if self._budget and not self._budget.fits(cost + more):
                return group, cost if group else more
            group[free.popleft()] = request
            cost += more
        return group, cost

    def _create(self, group: Mapping[str, Request[Any]], max_cost: float) -> None:
        batch = PendingBatch(f"tutelage-{uuid.uuid4().hex}", None, max_cost, self._caller.run, self._caller.stage)
        self._journal.add(batch, group)
        self._reserve(batch)
        bodies = {key: request.body for key, request in group.items()}
        tries = 0

        def create() -> str:
            nonlocal tries
            tries += 1
            # the batch may exist although the reply to the attempt before was lost
            found = self._service.find(batch.name) if tries > 1 else None
            return found or self._service.submit(batch.name, bodies)

        try:
            id = self._reliably(create)
        except _RejectedError as error:
            self._forget(batch.name)
            raise StageError(
                f"{error}. This was the submission of a batch; `batch: false` sends each request by itself"
            ) from None
        self._journal.created(batch.name, id)
        self._caller.note(f"batches: {len(group):,} requests are submitted as {id}")

    def _forget(self, name: str) -> None:
        """Delete the record of a batch that has no answers."""
        self._journal.settle(name)
        self._release(name)

    def _wanted(self) -> dict[str, PendingBatch]:
        """The pending batches with requests that have no answer, by name."""
        return {batch.name: batch for key, batch in self._journal.pending().items() if key in self._waiting}

    def _wait(self) -> list[tuple[PendingBatch, BatchStatus]]:
        """Return the batches that have ended; none if another process has collected or begun one in the meantime."""
        names = self._wanted().keys()
        while names:
            wanted = self._wanted()
            is_being_created = any(batch.id is None for batch in wanted.values())  # by another process, under the lock
            if wanted.keys() != names or is_being_created:
                break
            states = [(batch, self._status(batch)) for batch in wanted.values()]
            known = [(batch, status) for batch, status in states if status is not None]
            self._note_progress([status for _, status in known])
            ended = [(batch, status) for batch, status in known if status.ended]
            if ended or len(known) < len(states):
                return ended
            self._sleep(self._service.limits.poll_seconds)
        return []

    def _status(self, batch: PendingBatch) -> BatchStatus | None:
        """The state of a batch; None if its requests are sent again, because the service has lost it."""
        status = self._reliably(lambda: self._service.poll(str(batch.id)))
        if status is not None:
            return status
        if batch.age_hours < _LOST_HOURS:
            raise self._books.stage_error(
                f"the service does not know {batch.id}, a batch that was submitted at {batch.asked_at}; use the key of "
                f"the project that submitted it. {_LOST_HOURS:g} hours after the submission, the same command sends "
                "its requests again"
            )
        self._forget(batch.name)
        return None

    def _collect(self, batch: PendingBatch, status: BatchStatus) -> Iterator[Answer[Any]]:
        """Store the answers of a batch that has ended, and yield those that are wanted."""
        if status.problem is not None:
            self._rejected(batch, status.problem)
            return
        requests = self._journal.requests(batch.name)
        results = self._reliably(lambda: dict(self._service.results(str(batch.id))))
        entries, problems = list[Entry](), dict[str, CallError]()
        for key, request in requests.items():
            reply = _as_reply(results.get(key) or Transient("the batch ended without a reply to the request"))
            if isinstance(reply, Reply):
                cleaned = self._books.cleaned(reply, request)
                entry = self._books.entry(request, key, cleaned, 0.0, self._rounds[key] + 1)
                entries.append(evolve(entry, run=batch.run, stage=batch.stage))
            else:
                problems[key] = reply
        is_first = self._journal.settle(batch.name, entries)
        is_own = is_first and batch.run == self._caller.run
        if is_own and self._budget:
            self._budget.spend(sum(entry.cost or 0.0 for entry in entries))
        self._release(batch.name)
        self._queue_is_full = False
        self._ended += 1
        if is_first:  # otherwise, another process has stored the answers, and the ledger has them
            for entry in entries:
                yield from self._answers(entry, is_own)
            yield from self._unanswered(batch, status, problems)

    def _answers(self, entry: Entry, is_own: bool) -> Iterator[Answer[Any]]:
        """The answers to the requests with one key. The first one has the cost, if this run has paid for it."""
        self._books.note_success()
        for number, request in enumerate(self._waiting.pop(str(entry.key), ())):
            if is_own and number == 0:
                yield Answer(request.about, stored_reply(entry), attempts=entry.attempts, cost=entry.cost)
            else:
                yield Answer(request.about, stored_reply(entry), from_ledger=True, cost=0.0)

    def _unanswered(
        self, batch: PendingBatch, status: BatchStatus, problems: Mapping[str, CallError]
    ) -> Iterator[Answer[Any]]:
        """Yield the failures. A request whose problem is temporary remains for another batch."""
        wanted = {key: problem for key, problem in problems.items() if key in self._waiting}
        for problem in wanted.values():
            if isinstance(problem, Unusable):
                raise self._books.stage_error(self._books.shown(problem))
        if status.cancelled and wanted:
            raise self._books.stage_error(
                f"{batch.id}, a batch, was cancelled at the service; its answers are kept, and the same command "
                f"submits the other {len(wanted):,} requests again"
            )
        for key, problem in wanted.items():
            self._rounds[key] += 1
            if isinstance(problem, Transient) and self._rounds[key] < _ROUNDS:
                continue
            for request in self._waiting.pop(key):
                yield self._books.failed(request, self._books.shown(problem), self._rounds[key])

    def _rejected(self, batch: PendingBatch, problem: CallError) -> None:
        """Let the requests of a rejected batch wait until another batch has ended.

        Raises ``StageError`` if no other batch is pending, or if the service's queue was not the reason.
        """
        self._forget(batch.name)
        self._queue_is_full = isinstance(problem, Transient)
        if not (self._queue_is_full and self._wanted()):
            remedy = "; set batch_limits.requests to a lower number" if self._queue_is_full else ""
            raise self._books.stage_error(
                f"{batch.id}, a batch, was rejected: {self._books.shown(problem)}{remedy}; nothing of it was answered, "
                "and the same command submits its requests again"
            )

    def _note_progress(self, states: Sequence[BatchStatus]) -> None:
        """Write a line if the number of batches has changed, or if many requests were answered since the last line."""
        done, total = sum(status.done for status in states), len(self._waiting)
        batches = f"{self._ended} of {self._ended + len(states)} batches are collected"
        if batches != self._noted[0] or done - self._noted[1] >= max(1, _NOTED_SHARE * total):
            self._noted = (batches, done)
            self._caller.note(f"batches: {batches}; the service has answered {done:,} of the {total:,} requests left")

    def _reliably(self, call: Callable[[], T]) -> T:
        """Return the result of a control request, which is repeated while its problem is temporary."""
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=tenacity.stop_after_attempt(self._limits.attempts),
            wait=tenacity.wait_random_exponential(multiplier=self._limits.first_wait, max=_LONGEST_WAIT),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(call)
        except Transient as problem:
            raise self._books.stage_error(
                f"{self._books.shown(problem)} ({self._limits.attempts} attempts); {self._left_at_the_service()}"
            ) from None
        except CallError as problem:
            raise _RejectedError(str(self._books.stage_error(self._books.shown(problem)))) from None
        except TutelageError:
            raise
        except Exception as error:
            raise self._books.stage_error(unexpected(error)) from None

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._stop_if_cancelled()
            time.sleep(min(0.2, left))

    def _stop_if_cancelled(self) -> None:
        if self._caller.cancelled():
            raise Interrupted(f"stopped as requested; {self._left_at_the_service()}")

    def _left_at_the_service(self) -> str:
        wanted = [batch for key, batch in self._journal.pending().items() if key in self._waiting]
        pending = Counter(batch.name for batch in wanted if batch.id is not None)
        if not pending:
            unknown = "it is not known whether the service has created a batch" if wanted else "no batch is pending"
            return f"{unknown}; the same command continues"
        batches, verb = ("1 batch", "continues") if len(pending) == 1 else (f"{len(pending)} batches", "continue")
        left = f"{batches} with {pending.total():,} requests {verb} at the service"
        return f"{left}, and the same command collects the answers without sending the requests again"


class _RejectedError(StageError):
    """The service rejected a control request."""


def _as_reply(result: Reply | CallError) -> Reply | CallError:
    """The result as a reply, if it is to be stored: a refusal, or a reply that cannot be read."""
    if isinstance(result, Refused):
        return Reply("", Outcome.REFUSED, str(result))
    if isinstance(result, Unreadable):
        return Reply("", Outcome.UNPARSED, str(result))
    return result
