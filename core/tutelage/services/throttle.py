"""How many requests may be in flight, and how fast new ones may start."""

from __future__ import annotations

import threading
import time

from tutelage.services.requests import Limits

_SLOWER = 0.5
"""What is left of the limit when a service says that it is too much (TCP's: RFC 5681, 3.1)."""


class Concurrency:
    """So many at once as the service takes: additive increase, multiplicative decrease (Chiu and Jain, 1989)."""

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        self._most = most
        self._busy = 0
        self._slowed_at = -1.0
        self._changed = threading.Condition()

    def acquire(self) -> None:
        """Wait for a free place and take it."""
        with self._changed:
            while self._busy >= int(self.limit):
                self._changed.wait()
            self._busy += 1

    def release(self) -> None:
        """Give the place back."""
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def faster(self) -> None:
        """It went well: one more at once after as many such calls as may run at once."""
        with self._changed:
            self.limit = min(float(self._most), self.limit + 1.0 / self.limit)
            self._changed.notify()

    def slower(self, started: float) -> None:
        """The service said that it is too much to a request of that moment.

        One wave of complaints counts once: a request that started before the last slowing down says nothing of it.
        """
        with self._changed:
            if started > self._slowed_at:
                self.limit = max(1.0, self.limit * _SLOWER)
                self._slowed_at = time.monotonic()


class Pace:
    """So many units a minute, evenly: the wait for the next start follows from what was started before."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def book(self, units: float) -> float:
        """Take the next free time; returns the seconds until then."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + units * self._seconds_each
            return start - now

    def correct(self, units: float) -> None:
        """More (or, negative, fewer) units were used than booked."""
        with self._lock:
            self._next += units * self._seconds_each


class Place:
    """One request's place in flight, left when the service has replied, or when nobody waits for that any more."""

    def __init__(self, throttle: Throttle, booked_tokens: int) -> None:
        self.started = time.monotonic()
        self._throttle = throttle
        self._booked_tokens = booked_tokens
        self._left = threading.Lock()

    def leave(self) -> None:
        """The request is no longer in flight. The first call counts."""
        if self._left.acquire(blocking=False):
            self._throttle.concurrency.release()

    def faster(self, used_tokens: int | None) -> None:
        """It was answered, and used so many tokens where the service has counted them."""
        self._throttle.concurrency.faster()
        if used_tokens is not None:
            self._throttle.tokens.correct(used_tokens - self._booked_tokens)

    def slower(self) -> None:
        """The service said that it is asked too much."""
        self._throttle.concurrency.slower(self.started)


class Throttle:
    """The limits of one endpoint, shared by everything in this process that asks it."""

    def __init__(self, limits: Limits) -> None:
        self.concurrency = Concurrency(limits.in_flight)
        self.tokens = Pace(limits.tokens_per_minute)
        self._requests = Pace(limits.requests_per_minute)

    def enter(self, tokens: int, stopped: threading.Event) -> Place:
        """Wait until one more request of about so many tokens may start, or until the stop, and take its place."""
        self.concurrency.acquire()
        stopped.wait(max(self._requests.book(1), self.tokens.book(tokens)))
        return Place(self, tokens)
