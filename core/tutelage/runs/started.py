"""The note of an unfinished step: what its kept items are made from, and the time and money spent on it so far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from attrs import frozen
from cattrs import BaseValidationError

from tutelage.errors import InputError, TutelageError
from tutelage.files.disk_errors import writing
from tutelage.files.jsonl import converter, dump, read_json
from tutelage.planning.artifacts import SCRATCH
from tutelage.runs.store import Store

_SECONDS_BETWEEN_NOTES = 2.0


@frozen
class Started:
    """An unfinished step."""

    fingerprint: str
    """The fingerprint of the result. Items of another result are not used."""
    seconds: float = 0.0
    """Time that earlier processes worked on the step."""
    cost: float = 0.0
    """US dollars that they spent on it."""
    items: int = 0
    """Number of items that are finished; of a training, optimizer steps."""
    expected: int | None = None
    """Number of all items; None if it is not known yet."""


def read_started(store: Store, output: str) -> Started | None:
    """Return the note of an unfinished step; None if it has none. A damaged note counts as none."""
    path = store.path(_path(output))
    if not path.exists():
        return None
    try:
        note = read_json(path)
        return converter().structure(note, Started) if isinstance(note, dict) else None
    except (InputError, BaseValidationError):
        return None


def seconds_since_note(store: Store, output: str) -> float:
    """Return the time since the note of an unfinished step was last written; 0 if it has none."""
    try:
        return max(0.0, time.time() - store.path(_path(output)).stat().st_mtime)
    except OSError:
        return 0.0


def write_started(store: Store, output: str, started: Started) -> None:
    """Write the note of an unfinished step."""
    store.write_json(_path(output), started)


def drop_started(store: Store, output: str) -> None:
    """Delete the note of a finished step."""
    store.path(_path(output)).unlink(missing_ok=True)
    store.path(_metrics_path(output)).unlink(missing_ok=True)


@contextmanager
def live_metrics(store: Store, output: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes a row of metrics of an unfinished training, for readers of the run.

    The rows are not made durable. A training that continues logs all rows again, so the file starts anew.
    """
    path = store.path(_metrics_path(output))
    with ExitStack() as opened:
        file: IO[str] | None = None

        def write(row: Mapping[str, Any]) -> None:
            nonlocal file
            with writing(path):
                if file is None:
                    file = opened.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                file.write(dump(row) + "\n")
                file.flush()

        yield write


def read_live_metrics(store: Store, output: str) -> list[Mapping[str, Any]]:
    """Return the rows that an unfinished training has logged so far. A row that is being written is left out."""
    try:
        lines = store.path(_metrics_path(output)).read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


class Timer:
    """Adds the time and the cost of this process to the note of a step, so that a kill loses seconds of it only."""

    def __init__(self, store: Store, output: str, before: Started) -> None:
        self._store = store
        self._output = output
        self._before = before
        self._started = time.monotonic()
        self._noted = self._started
        self._items = 0
        self.expected: int | None = None
        """Number of the step's items, once it is known."""

    @property
    def seconds(self) -> float:
        """Time that all processes worked on the step so far."""
        return self._before.seconds + time.monotonic() - self._started

    def cost(self, spent: float) -> float:
        """Return what all processes spent on the step, with the amount that this process spent."""
        return self._before.cost + spent

    def advanced(self, items: int, spent: float) -> None:
        """Count finished items, and write the note unless it was written a moment ago."""
        self._items += items
        if time.monotonic() - self._noted >= _SECONDS_BETWEEN_NOTES:
            self._write(spent)

    def _write(self, spent: float) -> None:
        self._noted = time.monotonic()
        note = Started(self._before.fingerprint, round(self.seconds, 3), self.cost(spent), self._items, self.expected)
        write_started(self._store, self._output, note)

    @contextmanager
    def kept_on_error(self, spent: Callable[[], float]) -> Iterator[None]:
        """Write the note if the block ends with an exception. ``spent`` is called for the cost of this process."""
        try:
            yield
        except BaseException:
            with suppress(TutelageError):  # of a full disk: the exception is reported, not the note
                self._write(spent())
            raise


def _metrics_path(output: str) -> str:
    return f"{SCRATCH}/{output}.metrics.jsonl"


def _path(output: str) -> str:
    return f"{SCRATCH}/{output}.started.json"
