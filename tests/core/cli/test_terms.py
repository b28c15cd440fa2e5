"""The text of a licence is shown without the markup of its page, and is accepted on a terminal or by an option."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prepared_world import TERMS

from tutelage.cli.terms import ask_to_accept, terms_text
from tutelage.errors import InputError


def test_of_a_page_the_text_of_the_article_is_shown(tmp_path: Path) -> None:
    (tmp_path / "TERMS.html").write_text(TERMS)
    assert terms_text(tmp_path / "TERMS.html") == "Terms\nCount & share, but kindly."


def test_a_plain_text_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("\nMay be used <as is>.\n\n  - by all\n")
    assert terms_text(tmp_path / "LICENSE") == "May be used <as is>.\n\n  - by all"


def test_without_a_terminal_a_licence_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LICENSE").write_text("text")
    monkeypatch.setattr("sys.stdin", (tmp_path / "LICENSE").open())
    with pytest.raises(InputError, match=r"Some Licence .*--accept-license"):
        ask_to_accept("Some Licence", tmp_path / "LICENSE")


PROGRAM = """
import pathlib, signal, sys
from tutelage.cli.terms import ask_to_accept
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
signal.alarm(30)
try:
    print(f"returned {ask_to_accept('Some Licence', pathlib.Path(sys.argv[1]))}")
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(b"y\n", "returned True"), (b"n\n", "returned False"), (b"\x04", "returned False"), (None, "KeyboardInterrupt")],
    ids=["yes", "no", "end of the input", "Ctrl-C"],
)
def test_on_a_terminal_only_a_yes_accepts_and_ctrl_c_interrupts(
    tmp_path: Path, answer: bytes | None, outcome: str
) -> None:
    (tmp_path / "LICENSE").write_text("the text")
    ours, terminal = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "LICENSE")]
    environment = {**os.environ, "PAGER": "cat"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        shown = b""
        while b"Do you accept the Some Licence?" not in shown:
            shown += os.read(ours, 1024)
        time.sleep(0.2)  # until it reads
        if answer is None:
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, answer)
        try:
            while content := os.read(ours, 1024):
                shown += content
        except OSError:  # the terminal has no writer any more
            pass
    os.close(ours)
    assert b"the text" in shown
    assert shown.decode().split("\r\n")[-2] == outcome
