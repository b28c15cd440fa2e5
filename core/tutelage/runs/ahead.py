"""Calls that are started one ahead of the call whose result is used, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def one_ahead(calls: Iterable[tuple[KeyT, Callable[[], ValueT]]]) -> Iterator[tuple[KeyT, ValueT]]:
    """Call the function of each (key, function) and yield (key, its result), in order.

    When a function is waited for, the one after it runs as well. The error of a function is raised when its result is
    due. If the iterator is closed early, calls that run are not waited for, and their results are dropped.
    """
    started: deque[tuple[KeyT, Future[ValueT]]] = deque()
    for key, call in calls:
        started.append((key, _start(call)))
        if len(started) > 1:
            first, result = started.popleft()
            waiting = result.result()
            yield first, waiting
    while started:
        last, result = started.popleft()
        yield last, result.result()


def _start(call: Callable[[], ValueT]) -> Future[ValueT]:
    future: Future[ValueT] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()  # a thread that is not waited for must not keep the program from ending
    return future
