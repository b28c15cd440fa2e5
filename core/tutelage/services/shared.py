"""State that all callers of one run share: the ledger, the limits of each endpoint, and a lock for each request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field

from tutelage.services.ledger import Ledger
from tutelage.services.requests import Endpoint, Limits
from tutelage.services.throttle import Throttle


@define
class _KeyLock:
    """A lock and the number of threads that hold it or wait for it."""

    lock: threading.Lock = field(factory=threading.Lock)
    users: int = 0


class Shared:
    """The shared state of one run. Thread-safe."""

    def __init__(self, ledger: Ledger | None) -> None:
        """``ledger`` None is the user's ledger, opened at its first use."""
        self._ledger = ledger
        self._throttles: dict[tuple[Endpoint, Limits], Throttle] = {}
        self._key_locks: dict[str, _KeyLock] = {}
        self._lock = threading.Lock()

    @property
    def ledger(self) -> Ledger:
        """The ledger that stores the answers."""
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger()
            return self._ledger

    def throttle(self, endpoint: Endpoint, limits: Limits) -> Throttle:
        """Return the endpoint's throttle. Later stages reuse it, with the concurrency it has adapted to."""
        with self._lock:
            return self._throttles.setdefault((endpoint, limits), Throttle(limits))

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Allow one thread at a time per key, so that an equal request waits for the answer instead of being sent."""
        with self._lock:
            key_lock = self._key_locks.setdefault(key, _KeyLock())
            key_lock.users += 1
        try:
            with key_lock.lock:
                yield
        finally:
            with self._lock:
                key_lock.users -= 1
                if not key_lock.users:
                    del self._key_locks[key]
