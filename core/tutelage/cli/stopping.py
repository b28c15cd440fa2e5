"""Handling of Ctrl-C: the first stops the run at the next safe point, the second stops it immediately."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = b"\nstopping after the current work; press Ctrl-C again to stop immediately\n"


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed. A second Ctrl-C raises ``KeyboardInterrupt``."""
    asked = False

    def interrupted(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        os.write(2, STOPPING)  # not print: the signal may interrupt another print, which is not reentrant

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
