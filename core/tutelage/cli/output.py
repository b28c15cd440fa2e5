"""Output to the terminal: lines, errors and tables. Tables use rich on a terminal and plain text otherwise.

Model output is not trusted: a terminal executes escape sequences, and bidirectional control characters can disguise a
text. Therefore all output passes through ``printable``, and no text is interpreted as rich markup.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

import click
from attrs import frozen

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and other strings: titles, links
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_UNPRINTABLE = {"Cc", "Cs"}
"""Unicode categories: control characters, and surrogates, which cannot be encoded."""


def printable(text: str) -> str:
    """Return the text without escape sequences and control characters. Line feeds and tabs are kept."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    return "".join(letter for letter in text if letter in "\n\t" or _is_printable(letter))


def _is_printable(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNPRINTABLE and letter not in _BIDIRECTIONAL


WIDTH = 100
"""Number of columns of messages that are broken into lines."""


def wrapped(text: str) -> str:
    """Return a message in lines of at most ``WIDTH`` columns; the further lines are indented."""
    indent = len(text) - len(text.lstrip())
    further = " " * (indent + 2)
    return textwrap.fill(text, WIDTH, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)


def print_line(text: str = "") -> None:
    """Print a line of the result on stdout."""
    click.echo(printable(text))


def print_text(text: str) -> None:
    """Print a sentence of the result on stdout, on a terminal in lines of its width."""
    print_line(wrapped(text) if sys.stdout.isatty() else text)


def print_status(text: str) -> None:
    """Print a line of progress or status on stderr.

    Stderr may be a closed pipe or terminal, or a file on a full disk: this does not end the work that is reported.
    """
    with suppress(OSError):
        click.echo(printable(text), err=True)


def print_error(text: str) -> None:
    """Print an error message on stderr, with a red prefix on a terminal. A closed stderr is ignored."""
    with suppress(OSError):
        click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(text)}", err=True)


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

    def is_left(self, number: int) -> bool:
        """Whether the column with this index is left-aligned."""
        return number == 0 or self.columns[number] in self.left


def print_table(table: Table) -> None:
    """Print a table on stdout."""
    if sys.stdout.isatty():
        _print_rich(table)
    else:
        click.echo(plain(table))


def plain(table: Table) -> str:
    """Return a table as lines of text, with columns two spaces apart."""
    cells = [list(map(one_line, row)) for row in (table.columns, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [_plain_row(table, row, widths) for row in (cells[0], rule, *cells[1:])]
    return "\n".join([*([one_line(table.title)] if table.title else []), *lines])


def one_line(text: str) -> str:
    """Return the printable text on one line; each run of white space becomes one space."""
    return " ".join(printable(text).split())


def _plain_row(table: Table, row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if table.is_left(number) else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _print_rich(table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    title = Text(one_line(table.title), style="bold") if table.title else None
    drawn = RichTable(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for number, column in enumerate(table.columns):
        left = table.is_left(number)
        drawn.add_column(Text(column), justify="left" if left else "right", no_wrap=number == 0)
    for row in table.rows:
        drawn.add_row(*(Text(_without_breaks(table, number, cell)) for number, cell in enumerate(row)))
    Console().print(drawn)


def _without_breaks(table: Table, number: int, cell: str) -> str:
    """The text of a cell. Rich must not break a line within an interval such as ``[0.1, 0.2]``."""
    text = one_line(cell)
    return text if table.is_left(number) else text.replace(", ", ",")
