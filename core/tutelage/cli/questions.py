"""Questions on the terminal."""

from __future__ import annotations

import click

from tutelage.cli.output import print_status


def confirmed(question: str) -> bool:
    """Ask on stderr and return whether the user answers yes. No is the default. The end of the input counts as no.

    Raises ``KeyboardInterrupt`` at Ctrl-C, so that the exit code is that of an interruption.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort as error:  # click raises it for both
        print_status("")
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        return False
