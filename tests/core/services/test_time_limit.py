"""``within``: work with a time limit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tutelage.services.time_limit import TimeUp, within


def attempt_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tutelage-attempt"]


def test_what_the_work_returns_and_raises_comes_back() -> None:
    assert within(5, lambda: "done") == "done"
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    with pytest.raises(SystemExit):
        within(5, lambda: exec("raise SystemExit"))


def test_late_work_continues_in_its_thread_and_the_caller_does_not_wait() -> None:
    may_end, ended = threading.Event(), threading.Event()

    def work() -> None:
        may_end.wait(60)
        ended.set()

    with pytest.raises(TimeUp):
        within(0.05, work)
    assert not ended.is_set()
    assert within(5, lambda: "another thread") == "another thread"
    may_end.set()
    assert ended.wait(60)


def test_threads_are_used_again_and_end_when_there_is_no_more_work() -> None:
    with ThreadPoolExecutor(8) as callers:
        numbers = list(callers.map(lambda number: within(5, lambda: (number, threading.get_ident())), range(400)))
    assert [number for number, _ in numbers] == list(range(400))
    assert len({thread for _, thread in numbers}) <= 16
    for thread in attempt_threads():
        thread.join(60)
    assert attempt_threads() == []
