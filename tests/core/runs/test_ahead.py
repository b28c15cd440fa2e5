from collections.abc import Callable, Iterator
from threading import Event

import pytest

from tutelage.runs.ahead import one_ahead


def test_a_call_runs_while_the_one_before_is_waited_for_and_no_further_one() -> None:
    started = [Event() for _ in range(4)]

    def call(number: int) -> Callable[[], int]:
        def run() -> int:
            started[number].set()
            if number < 3:
                assert started[number + 1].wait(10), "the next call must run before this one ends"
                assert number > 1 or not started[number + 2].is_set()
            return number * 10

        return run

    assert list(one_ahead((number, call(number)) for number in range(4))) == [(0, 0), (1, 10), (2, 20), (3, 30)]


def test_an_error_is_raised_when_its_result_is_due() -> None:
    def fail() -> int:
        raise ValueError("no")

    results = one_ahead([("a", lambda: 1), ("b", fail), ("c", lambda: 3)])
    assert next(results) == ("a", 1)
    with pytest.raises(ValueError, match="no"):
        next(results)


def test_a_call_that_runs_ahead_is_not_waited_for_if_the_iterator_is_closed() -> None:
    never = Event()

    def calls() -> Iterator[tuple[str, Callable[[], bool]]]:
        yield "first", lambda: True
        yield "ahead", never.wait

    results = one_ahead(calls())
    assert next(results) == ("first", True)
    results.close()  # type: ignore[attr-defined]  # would not return if it waited
    never.set()
