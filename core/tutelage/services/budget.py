"""A limit on the cost of requests that is checked before each request is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.errors import BudgetError, InputError


class Budget:
    """The maximum cost of a run in US dollars. Requests in flight count with their maximum cost. Thread-safe."""

    def __init__(self, limit: float, spent: float = 0.0) -> None:
        """``spent`` is the cost of the run so far, from ``Ledger.spent``.

        Raises ``InputError`` if the limit is negative or not a number: every comparison with NaN is false.
        """
        if not limit >= 0:
            raise InputError(f"the budget must be a number of US dollars of at least 0, not {limit}")
        self.limit = limit
        self.spent = spent
        self._reserved = 0.0
        self._in_flight = 0
        self._settled = threading.Condition()

    @contextmanager
    def reserved(self, max_cost: float) -> Iterator[None]:
        """Reserve ``max_cost`` US dollars for one request while it is in flight.

        If the reservations of other requests leave too little, it waits until their actual costs are known. Raises
        ``BudgetError`` if no request is in flight and this one could exceed the limit.
        """
        with self._settled:
            while not self.fits(max_cost):
                if self._in_flight == 0:
                    raise self.exceeded(max_cost)
                self._settled.wait()
        with self.held(max_cost):
            yield

    def fits(self, max_cost: float) -> bool:
        """Return whether a request may be sent now: its maximum cost and the reservations leave the limit intact."""
        return self.spent + self._reserved + max_cost <= self.limit

    @contextmanager
    def held(self, max_cost: float) -> Iterator[None]:
        """Reserve ``max_cost`` US dollars without a check, for requests that were sent by an earlier process."""
        with self._settled:
            self._reserved += max_cost
            self._in_flight += 1
        try:
            yield
        finally:
            with self._settled:
                self._in_flight -= 1
                self._reserved = self._reserved - max_cost if self._in_flight else 0.0  # clears rounding errors
                self._settled.notify_all()

    def spend(self, cost: float) -> None:
        """Add the actual cost of an answer, in US dollars."""
        with self._settled:
            self.spent += cost

    def exceeded(self, max_cost: float) -> BudgetError:
        """Return the error of a request that could exceed the limit."""
        return BudgetError(
            f"the budget of ${self.limit:.4f} is used up: ${self.spent:.4f} is spent, and the next request may cost "
            f"${max_cost:.4f}; answers are kept, and the same command with a higher budget continues from here"
        )
