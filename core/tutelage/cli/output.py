"""Output to the terminal: lines, errors and tables. On a terminal, they are fitted into its width.

Model output is not trusted: a terminal executes escape sequences, and bidirectional control characters can disguise a
text. Therefore all output passes through ``printable``, and no text is interpreted as rich markup.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress

import click
from attrs import frozen

from tutelage.cli.table_layout import cells, table_lines

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and other strings: titles, links
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_UNFINISHED_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z|\x1b[ -/]*\Z")
_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_UNPRINTABLE = {"Cc", "Cs"}
"""Unicode categories: control characters, and surrogates, which cannot be encoded."""


def printable(text: str) -> str:
    """Return the text without escape sequences and control characters. Line feeds and tabs are kept."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    return "".join(letter for letter in text if letter in "\n\t" or _is_printable(letter))


def printable_so_far(text: str) -> str:
    """Return the printable start of a text that is not complete yet: ``printable`` of the whole text starts with it.

    White space and an escape sequence at the end are held back.
    """
    return printable(_UNFINISHED_SEQUENCE.sub("", text)).rstrip()


def _is_printable(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNPRINTABLE and letter not in _BIDIRECTIONAL


WIDTH = 100
"""Number of columns of messages that are broken into lines."""


def wrapped(text: str) -> str:
    """Return a message in lines of at most ``WIDTH`` columns, fewer on a narrow terminal; further lines are indented.

    No line is broken within a word.
    """
    return _wrapped(text, min(WIDTH, terminal_width()))


def _wrapped(text: str, width: int) -> str:
    indent = len(text) - len(text.lstrip())
    further = " " * (indent + 2)
    return textwrap.fill(text, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def fitted(text: str) -> str:
    """Return a message whose lines that are wider than the terminal are broken at spaces; other lines are unchanged."""
    width = terminal_width()
    return "\n".join(line if cells(line) <= width else _wrapped(line, width) for line in text.split("\n"))


def print_line(text: str = "") -> None:
    """Print a line of the result on stdout."""
    click.echo(printable(text))


def print_text(text: str) -> None:
    """Print a sentence of the result on stdout, on a terminal in lines of its width."""
    print_line(fitted(printable(text)) if sys.stdout.isatty() else text)


def print_status(text: str) -> None:
    """Print a line of progress or status on stderr.

    Stderr may be a closed pipe or terminal, or a file on a full disk: this does not end the work that is reported.
    """
    with suppress(OSError):
        click.echo(fitted(printable(text)) if sys.stderr.isatty() else printable(text), err=True)


def print_error(text: str) -> None:
    """Print an error message on stderr, with a red prefix on a terminal. A closed stderr is ignored."""
    with suppress(OSError):
        message = f"error: {printable(text)}"
        message = (fitted(message) if sys.stderr.isatty() else message).removeprefix("error:")
        click.echo(f"{click.style('error:', fg='red', bold=True)}{message}", err=True)


def discard_output() -> None:
    """Discard what could not be written on stdout: Python would try again at the end, and print a traceback."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the process ends


@frozen
class Table:
    """A table of texts. The first column and those named in ``left`` are left-aligned, the others right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    left: frozenset[str] = frozenset()
    below: str = ""
    """The column of paths that are written below their rows if the table is wider than the terminal."""

    def is_left(self, number: int) -> bool:
        """Whether the column with this index is left-aligned."""
        return number == 0 or self.columns[number] in self.left


def print_table(table: Table) -> None:
    """Print a table on stdout, on a terminal in its width."""
    if not sys.stdout.isatty():
        click.echo(plain(table))
        return
    if table.title:
        click.secho(wrapped(one_line(table.title)), bold=True)
    for line, is_heading in _lines(table, terminal_width()):
        click.secho(line, bold=is_heading)


def plain(table: Table, width: int | None = None) -> str:
    """Return a table as lines of text, with columns two spaces apart; see ``table_lines`` for ``width``."""
    lines = [line for line, _ in _lines(table, width)]
    return "\n".join([*([one_line(table.title)] if table.title else []), *lines])


def _lines(table: Table, width: int | None) -> Iterator[tuple[str, bool]]:
    rows = [list(map(one_line, row)) for row in (table.columns, *table.rows)]
    below = table.columns.index(table.below) if table.below else None
    return table_lines(rows, [table.is_left(number) for number in range(len(table.columns))], width, below)


def one_line(text: str) -> str:
    """Return the printable text on one line; each run of white space becomes one space."""
    return " ".join(printable(text).split())


def terminal_width() -> int:
    """Return the number of columns of the terminal, or ``COLUMNS`` if it is set; ``WIDTH`` if output is no terminal."""
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            if os.environ.get("COLUMNS", "").isdecimal():
                return int(os.environ["COLUMNS"]) or WIDTH
            with suppress(OSError, ValueError):  # a replaced stream may have no descriptor
                return os.get_terminal_size(stream.fileno()).columns or WIDTH
    return WIDTH
