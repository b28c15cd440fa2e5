"""The caller in a plugin's context: sends each request once, stores the answers and counts their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from attrs import define, field

from tutelage.errors import InputError
from tutelage.records import Outcome
from tutelage.services.attempts import Calls
from tutelage.services.batch_service import BatchService
from tutelage.services.batches import BatchCalls
from tutelage.services.booking import STORED
from tutelage.services.budget import Budget
from tutelage.services.ledger import Ledger
from tutelage.services.pool import Pool
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Request
from tutelage.services.shared import Shared

T = TypeVar("T")


@define
class Tally:
    """Counts of the requests of one caller."""

    outcomes: Counter[Outcome] = field(factory=Counter)
    """Number of answers by outcome, including those from the ledger."""
    from_ledger: int = 0
    """Answers that were in the ledger."""
    attempts: int = 0
    """Requests that were sent, counting each attempt."""
    cost: float = 0.0
    """US dollars, for the answers whose price is known."""
    unknown: int = 0
    """New answers whose cost is unknown."""

    def count(self, answer: Answer[Any]) -> None:
        """Add one answer."""
        self.outcomes[answer.reply.outcome] += 1
        self.from_ledger += answer.from_ledger
        self.attempts += answer.attempts
        self.cost += answer.cost or 0.0
        self.unknown += answer.cost is None and answer.reply.outcome in STORED


class Caller:
    """Calls services for one stage of one run. ``Caller()`` uses the user's ledger and has no budget.

    Example of its use in a plugin's hook::

        def ask(body, timeout):  # blocks; called from several threads; the SDK's retries are disabled
            try:
                answer = client.create(**body, timeout=timeout)
            except sdk.TooManyRequests as error:
                raise Transient(str(error), retry_after(error.headers), too_fast=True) from None
            return Reply(answer.text, input_tokens=answer.usage.input, output_tokens=answer.usage.output)

        requests = (Request(prompt, {"model": model.name, "text": prompt.text}) for prompt in prompts)
        for answer in context.caller.map(requests, ask, Endpoint("mine", url, model.name, secret=key), settings.limits):
            yield Demonstration(answer.about.id, answer.reply.text, answer.reply.outcome, answer.reply.detail)
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        budget: Budget | None = None,
        run: str = "",
        stage: str = "",
        cancelled: Callable[[], bool] = bool,
        ask_refused_again: bool = False,
        note: Callable[[str], object] = str,
    ) -> None:
        """``ledger`` None is the user's, opened at the first call. ``run`` and ``stage`` are stored with answers.

        ``note`` is called with lines about the progress of batches. The default does nothing.
        """
        self.budget = budget
        self.run = run
        self.stage = stage
        self.cancelled = cancelled
        self.ask_refused_again = ask_refused_again
        self.note = note
        self.tally = Tally()
        self._shared = Shared(ledger)

    @property
    def ledger(self) -> Ledger:
        """The ledger that stores the answers."""
        return self._shared.ledger

    def for_stage(self, stage: str) -> Caller:
        """Return a caller for another stage of the same run: same ledger, budget and limits, a new tally."""
        other = Caller(None, self.budget, self.run, stage, self.cancelled, self.ask_refused_again, self.note)
        other._shared = self._shared
        return other

    def map(
        self, requests: Iterable[Request[T]], ask: Ask, endpoint: Endpoint, limits: Limits | None = None
    ) -> Iterator[Answer[T]]:
        """Send every request and yield an answer for each, in any order.

        Requests are read lazily, at most ``2 * limits.in_flight`` ahead of the yielded answers. Each answer is in the
        ledger before it is yielded. Exceptions of ``ask``:

        - ``Transient``: retried with jittered exponential backoff, or after ``retry_after``, until a limit is reached;
          then the answer has ``Outcome.FAILED``.
        - ``Permanent``: the answer has ``Outcome.FAILED``.
        - ``Refused``: the answer has ``Outcome.REFUSED``.
        - ``Unreadable``: the answer has ``Outcome.UNPARSED``. It is stored, because it was paid for.

        Raises ``StageError`` if the service is unusable or was never reached, if too many requests in a row fail, or if
        ``ask`` raises another exception; ``BudgetError`` before a request that could exceed the budget; ``InputError``
        if a budget is set and the price is unknown. Requests in flight are completed and yielded first.
        """
        self._check_price(endpoint)
        limits = limits or Limits()
        run_and_stage = (self.run, self.stage)
        calls = Calls(self._shared, ask, endpoint, limits, self.budget, run_and_stage, not self.ask_refused_again)
        # twice the requests in flight: the others wait for their next attempt or are being stored
        pool: Pool[Request[T], Answer[T]] = Pool(calls.answer, 2 * limits.in_flight)
        for answer in pool.run(requests, self.cancelled):
            self.tally.count(answer)
            yield answer

    def map_in_batches(
        self, requests: Iterable[Request[T]], batches: BatchService, endpoint: Endpoint, limits: Limits | None = None
    ) -> Iterator[Answer[T]]:
        """Send the requests in batches to the batch endpoint of a service, and yield an answer for each, in any order.

        All requests are read first. Answers of the ledger are yielded at once, and the others when their batch has
        ended. A batch that this or another process has submitted before is waited for, and none of its requests is
        sent again. Requests that fail temporarily are sent again in a further batch.

        Raises ``Interrupted`` if the caller is cancelled: pending batches continue at the service, and the same call
        collects their answers. Raises ``StageError``, ``BudgetError`` and ``InputError`` as ``map``, and ``InputError``
        if the answers of the endpoint are not kept.
        """
        self._check_price(endpoint)
        calls = BatchCalls(self._shared.ledger, batches, endpoint, limits or Limits(), self.budget, self)
        for answer in calls.answers(requests):
            self.tally.count(answer)
            yield answer

    def _check_price(self, endpoint: Endpoint) -> None:
        if self.budget is not None and endpoint.cost(1, 1) is None:
            raise InputError(
                f"a budget is set, but the price of {endpoint.model!r} at {endpoint.base_url} is unknown: set "
                f"`price: {{input: ..., output: ...}}` in the settings of plugin {endpoint.provider!r}, in US dollars "
                "per million tokens (0 for a server that is free of charge), or remove the budget"
            )
