"""A question on a terminal: yes, no, the end of the input and Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import sys
from pathlib import Path

import pytest

PROGRAM = "from tutelage.cli.questions import confirmed; print('answer', confirmed('Sure?'))"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [(b"y\n", "answer True"), (b"n\n", "answer False"), (b"\n", "answer False"), (b"\x04", "answer False")],
    ids=["yes", "no", "nothing", "end of the input"],
)
def test_only_yes_is_a_yes(typed: bytes, shown: str) -> None:
    assert shown in answered(typed)


def test_ctrl_c_is_an_interruption_and_not_a_no() -> None:
    shown = answered(b"\x03")
    assert "KeyboardInterrupt" in shown
    assert "answer" not in shown


def answered(typed: bytes) -> str:
    """Run the program on a terminal and type. What is typed just before Python waits may be lost, so it is repeated."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM], {**os.environ, "TERM": "dumb"})
    shown = b""
    while b"[y/N]: " not in shown:
        shown += os.read(terminal, 65536)
    os.write(terminal, typed)
    while True:
        try:
            while not select.select([terminal], [], [], 5.0)[0]:
                os.write(terminal, typed)
            part = os.read(terminal, 65536)
        except OSError:  # on Linux, reading from a closed terminal raises an error
            part = b""
        if not part:
            break
        shown += part
    os.waitpid(process, 0)
    os.close(terminal)
    return shown.decode()


def test_the_module_is_the_only_one_that_asks() -> None:
    """Each command had its own reading of Ctrl-C and of the end of the input."""
    folder = Path(__file__).parents[3] / "core/tutelage"
    asking = [file.name for file in folder.rglob("*.py") if "click.confirm(" in file.read_text(encoding="utf-8")]
    assert asking == ["questions.py"]
