"""A thread pool for a lazy stream of items: bounded, unordered, and quick to stop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from attrs import frozen

In = TypeVar("In")
Out = TypeVar("Out")

GRACE_SECONDS = 10.0
"""How long work in flight may continue after a stop, so that an answer that is about to arrive is kept."""
_POLL_SECONDS = 0.1
"""Interval at which a waiting pool checks whether it was cancelled."""


class Stopped(Exception):
    """Raised by the work function if the pool was stopped before the item was sent."""


@frozen
class _Done(Generic[Out]):
    result: Out | None = None
    error: BaseException | None = None


class Pool(Generic[In, Out]):
    """Threads that apply ``work(item, stopped)`` to a stream.

    The threads are daemons, so that a call that hangs in a library does not keep the program from ending.
    """

    def __init__(self, work: Callable[[In, threading.Event], Out], width: int, grace: float = GRACE_SECONDS) -> None:
        self._work = work
        self._width = width
        self._grace = grace
        self._stopped = threading.Event()
        self._jobs: queue.SimpleQueue[In | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[_Done[Out]] = queue.SimpleQueue()
        self._threads = 0
        self._outstanding = 0
        self._error: BaseException | None = None

    def run(self, items: Iterable[In], cancelled: Callable[[], bool]) -> Iterator[Out]:
        """Yield the results in the order of completion. At most ``width`` items are taken and not yet yielded.

        After an error of ``work``, or if ``cancelled`` returns true, no more items are taken; results that arrive
        within the grace period are yielded, then the first error is raised. If the consumer closes the generator, or
        on Ctrl-C, the work is stopped in the same way.
        """
        try:
            for item in self._until_stopped(items, cancelled):
                self._submit(item)
                while self._outstanding >= self._width or not self._done.empty():
                    yield from self._next_results(cancelled)
            while self._outstanding and not self._stopped.is_set():
                yield from self._next_results(cancelled)
            yield from self._remaining()
        finally:
            self._stopped.set()
            for _ in self._remaining():
                pass
            for _ in range(self._threads):
                self._jobs.put(None)
        if self._error is not None:
            raise self._error

    def _until_stopped(self, items: Iterable[In], cancelled: Callable[[], bool]) -> Iterator[In]:
        for item in items:
            if cancelled():
                self._stopped.set()
            if self._stopped.is_set():
                return
            yield item

    def _submit(self, item: In) -> None:
        self._jobs.put(item)
        self._outstanding += 1
        if self._threads < min(self._width, self._outstanding):
            threading.Thread(target=self._work_on_jobs, daemon=True, name=f"tutelage-call-{self._threads}").start()
            self._threads += 1

    def _next_results(self, cancelled: Callable[[], bool]) -> Iterator[Out]:
        """Yield the next result; nothing after ``_POLL_SECONDS``, an error or ``Stopped``."""
        try:
            done = self._done.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if cancelled():
                self._stopped.set()
            return
        yield from self._result_of(done)

    def _remaining(self) -> Iterator[Out]:
        """Yield the results in flight that arrive within the grace period."""
        deadline = time.monotonic() + self._grace
        while self._outstanding:
            try:
                done = self._done.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            yield from self._result_of(done)

    def _result_of(self, done: _Done[Out]) -> Iterator[Out]:
        self._outstanding -= 1
        if done.error is None:
            yield done.result  # type: ignore[misc]  # without an error, there is a result
        elif not isinstance(done.error, Stopped):
            self._error = self._error or done.error
            self._stopped.set()

    def _work_on_jobs(self) -> None:
        while (item := self._jobs.get()) is not None:
            self._done.put(self._apply(item))

    def _apply(self, item: In) -> _Done[Out]:
        if self._stopped.is_set():
            return _Done(error=Stopped())
        try:
            return _Done(result=self._work(item, self._stopped))
        except BaseException as error:
            return _Done(error=error)
