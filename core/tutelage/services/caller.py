"""The caller that a plugin finds in its context: asks each question once, keeps the answer, knows what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from attrs import define, field

from tutelage.errors import InputError
from tutelage.records import Outcome
from tutelage.services.attempts import STORED, Calls
from tutelage.services.budget import Budget
from tutelage.services.ledger import Ledger
from tutelage.services.pool import Pool
from tutelage.services.requests import Answer, Ask, Endpoint, Limits, Request
from tutelage.services.shared import Shared

T = TypeVar("T")


@define
class Tally:
    """What became of the requests of one caller."""

    outcomes: Counter[Outcome] = field(factory=Counter)
    """Of every request, from the ledger or not."""
    from_ledger: int = 0
    attempts: int = 0
    """Requests that were sent: every attempt counts."""
    cost: float = 0.0
    """US dollars spent, as far as prices are known."""
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
    """Calls services for one stage of one run. ``Caller()`` alone serves a library user: the user's ledger, no budget.

    A plugin's hook needs no more than::

        def ask(body, timeout):  # blocks; run in threads; the SDK's own retries are off
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
    ) -> None:
        """``ledger`` None is the user's, opened at the first call; ``run`` and ``stage`` say in it who asked."""
        self.budget = budget
        self.run = run
        self.stage = stage
        self.cancelled = cancelled
        self.ask_refused_again = ask_refused_again
        self.tally = Tally()
        self._shared = Shared(ledger)

    @property
    def ledger(self) -> Ledger:
        """Where the answers are kept."""
        return self._shared.ledger

    def for_stage(self, stage: str) -> Caller:
        """A caller for another stage of the same run: same ledger, budget and limits, a tally of its own."""
        other = Caller(None, self.budget, self.run, stage, self.cancelled, self.ask_refused_again)
        other._shared = self._shared
        return other

    def map(
        self, requests: Iterable[Request[T]], ask: Ask, endpoint: Endpoint, limits: Limits | None = None
    ) -> Iterator[Answer[T]]:
        """Ask every request and yield an answer for each, in any order.

        Requests are taken as they are needed, at most twice ``limits.in_flight`` ahead of what was yielded. Each
        answer is in the ledger before it is yielded. What ``ask`` raises says what happens: ``Transient`` is tried
        again with a growing, jittered wait that honours ``retry_after``, until the limits are used up; after that,
        and for ``Permanent``, the answer has ``Outcome.FAILED``; ``Refused`` is an answer with ``Outcome.REFUSED``.

        Raises ``StageError`` where the service is unusable or only fails, and where ``ask`` raises anything else;
        ``BudgetError`` before a request that could pass the budget; ``InputError`` where a budget is set and the
        price is unknown. What was in flight is finished and yielded first.
        """
        self._check_price(endpoint)
        limits = limits or Limits()
        asker = (self.run, self.stage)
        calls = Calls(self._shared, ask, endpoint, limits, self.budget, asker, not self.ask_refused_again)
        # as many again as may be in flight: those that wait for their next attempt, or are being stored
        pool: Pool[Request[T], Answer[T]] = Pool(calls.answer, 2 * limits.in_flight)
        for answer in pool.run(requests, self.cancelled):
            self.tally.count(answer)
            yield answer

    def _check_price(self, endpoint: Endpoint) -> None:
        if self.budget is not None and endpoint.cost(1, 1) is None:
            raise InputError(
                f"a budget is set, but the price of {endpoint.model!r} at {endpoint.base_url} is unknown: give it as "
                f"`price: {{input: ..., output: ...}}` in the settings of plugin {endpoint.provider!r}, in US dollars "
                "for a million tokens (0 for a server that costs nothing), or leave the budget out"
            )
