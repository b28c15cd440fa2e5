"""Limits on the number of requests in flight and on the rate at which new ones start."""

from __future__ import annotations

import threading
import time

from tutelage.services.requests import Limits

_DECREASE = 0.5
"""Factor on the limit after an overload, as in TCP (RFC 5681, 3.1)."""


class Concurrency:
    """An adaptive limit on requests in flight: additive increase, multiplicative decrease (Chiu and Jain, 1989)."""

    def __init__(self, maximum: int) -> None:
        self.limit = float(maximum)
        self._maximum = maximum
        self._busy = 0
        self._decreased_at = -1.0
        self._changed = threading.Condition()

    def acquire(self) -> None:
        """Wait for a free slot and take it."""
        with self._changed:
            while self._busy >= int(self.limit):
                self._changed.wait()
            self._busy += 1

    def release(self) -> None:
        """Free a slot."""
        with self._changed:
            self._busy -= 1
            self._changed.notify()

    def increase(self) -> None:
        """Raise the limit after a success. As many successes as the limit raise it by one."""
        with self._changed:
            self.limit = min(float(self._maximum), self.limit + 1.0 / self.limit)
            self._changed.notify()

    def decrease(self, started: float) -> None:
        """Lower the limit after the service reported an overload to a request that started at ``started``.

        Requests that started before the last decrease are ignored, so that one overload lowers the limit once.
        """
        with self._changed:
            if started > self._decreased_at:
                self.limit = max(1.0, self.limit * _DECREASE)
                self._decreased_at = time.monotonic()


class Pace:
    """A limit on units per minute, spread evenly. Each booking moves the next start time by its number of units."""

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def book(self, units: float) -> float:
        """Book units at the next free start time. Return the seconds until that time."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + units * self._seconds_each
            return start - now

    def correct(self, units: float) -> None:
        """Correct the last bookings by units that were used in addition (or, if negative, not used)."""
        with self._lock:
            self._next += units * self._seconds_each


class Slot:
    """The slot of one request in flight. It is released after the reply, or when the request is abandoned."""

    def __init__(self, throttle: Throttle, booked_tokens: int) -> None:
        self.started = time.monotonic()
        self._throttle = throttle
        self._booked_tokens = booked_tokens
        self._released = threading.Lock()

    def release(self) -> None:
        """Free the slot. Only the first call has an effect."""
        if self._released.acquire(blocking=False):
            self._throttle.concurrency.release()

    def report_answer(self, used_tokens: int | None) -> None:
        """Raise the limit after an answer. ``used_tokens`` is the service's count, None if it gave none."""
        self._throttle.concurrency.increase()
        if used_tokens is not None:
            self._throttle.tokens.correct(used_tokens - self._booked_tokens)

    def report_overload(self) -> None:
        """Lower the limit after the service rejected the request because of a rate limit."""
        self._throttle.concurrency.decrease(self.started)


class Throttle:
    """The limits of one endpoint, shared by all its callers in a run."""

    def __init__(self, limits: Limits) -> None:
        self.concurrency = Concurrency(limits.in_flight)
        self.tokens = Pace(limits.tokens_per_minute)
        self._requests = Pace(limits.requests_per_minute)
        self.was_reached = False
        """Whether the service has replied to a request, with an answer or with an error."""

    def enter(self, tokens: int, stopped: threading.Event) -> Slot:
        """Wait until a request with about this many tokens may start, or until ``stopped``, and return its slot."""
        self.concurrency.acquire()
        stopped.wait(max(self._requests.book(1), self.tokens.book(tokens)))
        return Slot(self, tokens)
