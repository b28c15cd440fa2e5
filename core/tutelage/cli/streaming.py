"""An answer that is printed on the terminal while a model generates it."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

import click

from tutelage.cli.output import print_line, print_status, printable, printable_so_far

CHANGED = "(the text above was no part of the answer, which is:)"


class StreamedAnswer:
    """Prints the text of an answer as it grows. Within ``with``, an answer that is interrupted ends with its line."""

    def __init__(self) -> None:
        self.printed = ""
        """The text on the terminal since the start of a line."""

    def show(self, text: str) -> None:
        """Print what is new in the text so far. A text that does not continue the printed one is ignored."""
        shown = printable_so_far(text)
        if len(shown) > len(self.printed) and shown.startswith(self.printed):
            new, self.printed = shown[len(self.printed) :], shown  # first: Ctrl-C may come while the text is printed
            with suppress(OSError):  # of a closed terminal; the error is not one of the plugin that calls this
                click.echo(new, nl=False)

    def finish(self, text: str) -> None:
        """Print the rest of the complete answer, or all of it if its start was printed otherwise."""
        whole, printed = printable(text), self.printed
        if not whole.startswith(printed):
            print_line()
            print_status(CHANGED)
            printed = ""
        self.printed = ""
        print_line(whole[len(printed) :])

    def __enter__(self) -> StreamedAnswer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.printed:
            with suppress(OSError):
                print_line()
