"""A time limit that holds even where the work itself never ends, as a service that sends one byte a second never does.

The work runs in a thread of its own, which is left to itself when the time is up. Threads are kept for the next work:
a new one for each call would cost a tenth of the processor time of a call.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen

T = TypeVar("T")

_IDLE_SECONDS = 0.5
"""How long a thread waits for its next work before it ends."""


class TimeUp(Exception):
    """The work was not done within its time. It goes on, and nobody waits for it."""


@frozen
class _Job:
    work: Callable[[], Any]
    done: queue.SimpleQueue[tuple[Any, BaseException | None]]
    """Gets the result, or what was raised instead."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """The work's result; what it raises is raised here. Raises ``TimeUp`` where it takes longer than its time."""
    job = _Job(work, queue.SimpleQueue())
    _free_thread().jobs.put(job)
    try:
        result, error = job.done.get(timeout=seconds)
    except queue.Empty:
        raise TimeUp from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]  # it is what the work returned


class _Thread:
    """Does one job after the other. It is a daemon: what hangs in it never keeps the program from ending."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="tutelage-attempt").start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            answer = _answer_of(job)
            _idle.append(self)
            job.done.put(answer)
            del job, answer  # or they would be kept alive until the next job

    def _next(self) -> _Job | None:
        while True:
            try:
                return self.jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # it was taken just now: its job is on the way
                return None


_idle: deque[_Thread] = deque()
"""Threads without work. Those used last are used first, so that as few as possible are kept."""


def _free_thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        return _Thread()


def _answer_of(job: _Job) -> tuple[Any, BaseException | None]:
    try:
        return job.work(), None
    except BaseException as error:
        return None, error
