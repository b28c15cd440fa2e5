"""Model output cannot control the terminal, and tables are aligned."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import unicodedata
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cli.output import (
    Table,
    plain,
    print_error,
    print_line,
    print_status,
    print_table,
    print_text,
    printable,
    printable_so_far,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x9b31mred by one byte", "red by one byte"),
        ("\x1b]0;a new title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;clipboard without an end", ""),
        ("\x1bPdevice control\x1b\\after", "after"),
        ("over\rwritten\b\b\b and a bell\a", "overwritten and a bell"),
        ("\x1bc reset", " reset"),
        ("ends with escape \x1b", "ends with escape "),
        ("\u202eesrever\u202c \u2066isolated\u2069", "esrever isolated"),
        ("half a pair \ud83d", "half a pair "),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
        ("日本語 \U0001f469\u200d\U0001f52c é", "日本語 \U0001f469\u200d\U0001f52c é"),
    ],
)
def test_printable_removes_escape_sequences_and_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d[];?m\x07\\c0"))))
def test_no_control_is_left_whatever_the_text_was(text: str) -> None:
    shown = printable(text)
    assert not [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\n\t"]
    assert printable(shown) == shown


def test_a_plain_table_aligns_figures_to_the_right() -> None:
    table = Table(("model", "score"), [("M1", "3.35"), ("M2/self-reward", "13.77")], "Scores")
    assert plain(table).splitlines() == [
        "Scores",
        "model           score",
        "--------------  -----",
        "M1               3.35",
        "M2/self-reward  13.77",
    ]


def test_a_cell_cannot_break_a_plain_table() -> None:
    table = Table(("id", "text"), [("1", "two\nlines\x1b[2J")], left=frozenset({"text"}))
    assert plain(table).splitlines()[-1] == "1   two lines"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], TextIO]]:
    """Make stdout and stderr one terminal with a number of columns; return the end from which its screen is read."""
    opened: list[TextIO] = []

    def open_terminal(columns: int) -> TextIO:
        reading, writing = pty.openpty()
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        monkeypatch.delenv("COLUMNS", raising=False)
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, os.fdopen(os.dup(writing), "w", buffering=1))
        os.close(writing)
        opened.extend([sys.stdout, sys.stderr, os.fdopen(reading)])
        return opened[-1]

    yield open_terminal
    for stream in opened:
        stream.close()


def screen(reading: TextIO) -> list[str]:
    """Return the lines on the terminal. One read may return a part of what was written, so a NUL marks the end."""
    sys.stderr.flush()
    print("\0", end="", flush=True)
    written = b""
    while not written.endswith(b"\0"):
        written += os.read(reading.fileno(), 100_000)
    text = written.decode().removesuffix("\0")
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n").splitlines()


def test_nothing_in_a_table_on_a_terminal_is_markup(terminal: Callable[[int], TextIO]) -> None:
    reading = terminal(80)
    print_table(Table(("[red]id[/red]",), [("[link=http://evil]x[/link]\x1b[2J",)], "[b]title[/b]"))
    assert screen(reading) == ["[b]title[/b]", "[red]id[/red]", "-" * 26, "[link=http://evil]x[/link]"]


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_messages_on_a_terminal_are_broken_at_spaces_and_other_lines_are_not(
    terminal: Callable[[int], TextIO], columns: int
) -> None:
    message = " ".join(f"word-{number}" for number in range(40))
    for say in (print_text, print_status, print_error):
        reading = terminal(columns)
        say(f"{message}\nsecond line")
        lines = screen(reading)
        assert max(map(len, lines)) <= columns
        assert " ".join(" ".join(lines).split()).removeprefix("error: ") == f"{message} second line"
        assert lines[-1] == "second line"
    reading = terminal(columns)
    print_line(message)
    assert screen(reading) == [message]


def test_messages_that_go_to_a_file_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    message = "word " * 100 + "end"
    print_status(message)
    print_text(message)
    assert capsys.readouterr() == (f"{message}\n", f"{message}\n")


@given(st.text(st.sampled_from("ab \n\x1b[]0;m2J\\\x07\x9b\x9d\x9c\u202e\x00 ("), max_size=30))
def test_what_is_shown_of_an_incomplete_text_is_the_start_of_its_printable_text(text: str) -> None:
    whole = printable(text)
    assert [end for end in range(len(text)) if not whole.startswith(printable_so_far(text[:end]))] == []


def test_an_escape_sequence_that_is_not_complete_is_held_back_and_other_text_is_not() -> None:
    assert printable_so_far("ab\x1b[2") == "ab" and printable_so_far("ab\x1b[2Jc [1") == "abc [1"
