"""Handling of the signals that end a program: Ctrl-C (SIGINT), SIGTERM, and SIGHUP when the terminal is closed.

``tutelage run`` and the other commands that keep their work stop at the next safe point. All other commands stop
immediately, as at Ctrl-C: temporary files are removed and child processes are ended. A signal that was ignored when the
command was started stays ignored, such as SIGHUP under ``nohup``. Windows has no SIGHUP.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = b"\nstopping after the current work\n"
STOPPING_BY_CTRL_C = b"\nstopping after the current work; press Ctrl-C again to stop immediately\n"
_TERMINATION = ("SIGTERM", "SIGHUP")


@contextmanager
def stop_on_interrupt(drawn: Callable[[], int] = lambda: 0) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the user or the system asked to stop.

    ``drawn`` returns the number of lines of the bars that are on the terminal at this moment. They are erased before
    the message, and the next drawing takes the lines below it.

    Ctrl-C after that raises ``KeyboardInterrupt``. SIGTERM and SIGHUP do not, however often they come: service managers
    and shells send them several times, and end a program that takes too long by SIGKILL.
    """
    asked = False
    terminals = _terminals()

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            lines = drawn()
            message = STOPPING_BY_CTRL_C if number == signal.SIGINT else STOPPING
            _say(_above_bars(message, lines) if lines and 2 in terminals else message, terminals)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    with _handled(stop, "SIGINT", *_TERMINATION):
        yield lambda: asked


@contextmanager
def interrupt_immediately() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` at the first Ctrl-C: for a question to the user within ``stop_on_interrupt``."""
    with _handled(signal.default_int_handler, "SIGINT"):
        yield


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` at the first SIGTERM or SIGHUP. Later ones do not disturb the cleaning up."""
    came = False
    terminals = _terminals()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            _say(b"", terminals)
            raise KeyboardInterrupt

    with _handled(interrupt, *_TERMINATION):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object], *names: str) -> Iterator[None]:
    """Handle the signals of these names that exist and are not ignored. Only the main thread can do that."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: handled for number, handled in before.items() if handled not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def _above_bars(message: bytes, lines: int) -> bytes:
    """The message in the place of bars, which take ``lines`` lines, with room below it for the next drawing."""
    erased = b"\r\x1b[2K" + b"\x1b[1A\x1b[2K" * (lines - 1)
    return erased + message.lstrip(b"\n") + b"\n" * (lines - 1)


def _terminals() -> list[int]:
    return [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]


def _say(message: bytes, terminals: list[int]) -> None:
    """Write to stderr. If its terminal is closed, further output is discarded: writing it would end the work.

    Not by ``print``: the signal may interrupt another print, which is not reentrant.
    """
    try:
        os.write(2, message)
        closed = [descriptor for descriptor in terminals if not os.isatty(descriptor)]
    except OSError:
        closed = terminals
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in closed:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
