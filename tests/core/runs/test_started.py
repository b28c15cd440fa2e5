"""The note of an unfinished step adds up its time over the processes that work on it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tutelage.runs.started import Started, Timer, drop_started, read_started, write_started
from tutelage.runs.store import Store

OUTPUT = "seed-0/M1/checkpoint"


def test_seconds_and_cost_of_all_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log said 3 s for a step whose first process was killed after 2 hours."""
    now = iter([100.0, 107.0, 107.0, 107.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    store = Store(tmp_path)
    timer = Timer(store, OUTPUT, Started("ab", 7200.0, 1.5))
    with pytest.raises(KeyboardInterrupt), timer.kept_on_error(lambda: 0.25):
        raise KeyboardInterrupt
    assert read_started(store, OUTPUT) == Started("ab", 7207.0, 1.75)


def test_a_kill_loses_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    store = Store(tmp_path)
    timer = Timer(store, OUTPUT, Started("ab"))
    timer.expected = 8
    for second in (1.0, 3.0, 4.0, 4.5):
        clock[0] = second
        timer.advanced(1, 0.5)
    assert read_started(store, OUTPUT) == Started("ab", 3.0, 0.5, items=2, expected=8)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": 1}', '{"fingerprint": "a", "seconds": "x"}', "\x00"])
def test_a_damaged_note_counts_as_none(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    write_started(store, OUTPUT, Started("ab"))
    (tmp_path / f".scratch/{OUTPUT}.started.json").write_text(text)
    assert read_started(store, OUTPUT) is None


def test_a_note_is_dropped_once_and_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_started(store, OUTPUT, Started("ab"))
    drop_started(store, OUTPUT)
    drop_started(store, OUTPUT)
    assert read_started(store, OUTPUT) is None
