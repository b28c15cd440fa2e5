"""The note of an unfinished step: what its kept items are made from, and the time and money spent on it so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from attrs import frozen
from cattrs import BaseValidationError

from tutelage.errors import InputError, TutelageError
from tutelage.files.jsonl import converter, read_json
from tutelage.planning.artifacts import SCRATCH
from tutelage.runs.store import Store

_SECONDS_BETWEEN_NOTES = 5.0


@frozen
class Started:
    """An unfinished step."""

    fingerprint: str
    """The fingerprint of the result. Items of another result are not used."""
    seconds: float = 0.0
    """Time that earlier processes worked on the step."""
    cost: float = 0.0
    """US dollars that they spent on it."""


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


def write_started(store: Store, output: str, started: Started) -> None:
    """Write the note of an unfinished step."""
    store.write_json(_path(output), started)


def drop_started(store: Store, output: str) -> None:
    """Delete the note of a finished step."""
    store.path(_path(output)).unlink(missing_ok=True)


class Timer:
    """Adds the time and the cost of this process to the note of a step, so that a kill loses seconds of it only."""

    def __init__(self, store: Store, output: str, before: Started) -> None:
        self._store = store
        self._output = output
        self._before = before
        self._started = time.monotonic()
        self._noted = self._started

    @property
    def seconds(self) -> float:
        """Time that all processes worked on the step so far."""
        return self._before.seconds + time.monotonic() - self._started

    def cost(self, spent: float) -> float:
        """Return what all processes spent on the step, with the amount that this process spent."""
        return self._before.cost + spent

    def note(self, spent: float) -> None:
        """Write the note, unless it was written a moment ago."""
        if time.monotonic() - self._noted >= _SECONDS_BETWEEN_NOTES:
            self._write(spent)

    def _write(self, spent: float) -> None:
        self._noted = time.monotonic()
        note = Started(self._before.fingerprint, round(self.seconds, 3), self.cost(spent))
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


def _path(output: str) -> str:
    return f"{SCRATCH}/{output}.started.json"
