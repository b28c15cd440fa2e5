"""A time limit that holds even if the work never ends, as with a service that sends one byte per second.

The work runs in a separate thread, which is abandoned after the time limit. Idle threads are reused: starting a thread
for each call would add about a tenth to the processor time of a call.
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
"""How long an idle thread waits for its next job before it ends."""


class TimeUp(Exception):
    """The work did not finish within its time. Its thread continues, but the result is discarded."""


@frozen
class _Job:
    work: Callable[[], Any]
    done: queue.SimpleQueue[tuple[Any, BaseException | None]]
    """Receives (result, None) or (None, exception)."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of ``work``, or raise its exception. Raises ``TimeUp`` after ``seconds``."""
    job = _Job(work, queue.SimpleQueue())
    _free_thread().jobs.put(job)
    try:
        result, error = job.done.get(timeout=seconds)
    except queue.Empty:
        raise TimeUp from None
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]  # the result of `work`


class _Thread:
    """Runs jobs one after the other. It is a daemon, so that a job that hangs does not keep the program from ending."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="tutelage-attempt").start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            outcome = _run(job)
            _idle.append(self)
            job.done.put(outcome)
            del job, outcome  # otherwise they stay alive until the next job

    def _next(self) -> _Job | None:
        while True:
            try:
                return self.jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # another thread has just taken it: its job will arrive
                return None


_idle: deque[_Thread] = deque()
"""Idle threads. The last one used is taken first, so that surplus threads reach their idle limit and end."""


def _free_thread() -> _Thread:
    try:
        return _idle.pop()
    except IndexError:
        return _Thread()


def _run(job: _Job) -> tuple[Any, BaseException | None]:
    try:
        return job.work(), None
    except BaseException as error:
        return None, error
