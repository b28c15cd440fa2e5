"""A limit on money that is kept before it is passed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tutelage.errors import BudgetError


class Budget:
    """So many US dollars for a run. Requests in flight count with the most that they can cost."""

    def __init__(self, limit: float, spent: float = 0.0) -> None:
        """``spent`` is what the run has cost before: ``Ledger.spent``."""
        self.limit = limit
        self.spent = spent
        self._reserved = 0.0
        self._in_flight = 0
        self._settled = threading.Condition()

    @contextmanager
    def reserved(self, most: float) -> Iterator[None]:
        """Hold ``most`` US dollars for one request while it is in flight.

        Where the requests in flight leave no room, it waits for their true costs. Raises ``BudgetError`` where
        nothing is in flight any more and this request could pass the limit.
        """
        with self._settled:
            while self.spent + self._reserved + most > self.limit:
                if self._in_flight == 0:
                    raise self._used_up(most)
                self._settled.wait()
            self._reserved += most
            self._in_flight += 1
        try:
            yield
        finally:
            with self._settled:
                self._in_flight -= 1
                self._reserved = self._reserved - most if self._in_flight else 0.0  # no rounding errors left behind
                self._settled.notify_all()

    def spend(self, cost: float) -> None:
        """An answer has come and cost so many US dollars."""
        with self._settled:
            self.spent += cost

    def _used_up(self, most: float) -> BudgetError:
        return BudgetError(
            f"the budget of ${self.limit:.4f} is used up: ${self.spent:.4f} is spent, and the next request may cost "
            f"${most:.4f}; what was answered is kept, and the same command with a higher budget goes on from here"
        )
