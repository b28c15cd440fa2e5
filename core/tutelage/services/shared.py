"""What all callers of one run share: the ledger, the limits of each endpoint, and whose turn it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field

from tutelage.services.ledger import Ledger
from tutelage.services.requests import Endpoint, Limits
from tutelage.services.throttle import Throttle


@define
class _Turn:
    """A lock, and how many hold it or wait for it."""

    lock: threading.Lock = field(factory=threading.Lock)
    wanted: int = 0


class Shared:
    """One for a run; used by several threads."""

    def __init__(self, ledger: Ledger | None) -> None:
        """None is the user's ledger, opened when it is first needed."""
        self._ledger = ledger
        self._throttles: dict[tuple[Endpoint, Limits], Throttle] = {}
        self._turns: dict[str, _Turn] = {}
        self._lock = threading.Lock()

    @property
    def ledger(self) -> Ledger:
        """Where the answers are kept."""
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger()
            return self._ledger

    def throttle(self, endpoint: Endpoint, limits: Limits) -> Throttle:
        """The endpoint's limits: what one stage learned of its speed holds for the next."""
        with self._lock:
            return self._throttles.setdefault((endpoint, limits), Throttle(limits))

    @contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """One thread at a time for each key: a question in flight is waited for, not asked a second time."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[key]
