"""Exceptions whose messages are shown to the user. Each class has its own exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """Base class of errors that are shown to the user; the command line prints the message without a traceback."""

    exit_code = 1
    """Exit code of the command line."""


class InputError(TutelageError):
    """A recipe, an option or a data file is wrong. Nothing has been run or written."""

    exit_code = 2


class PluginError(TutelageError):
    """A plugin is missing, cannot be loaded, or violates the contract of a hook."""

    exit_code = 3


class RunLockedError(TutelageError):
    """Another process holds the lock of this run."""

    exit_code = 4


class BudgetError(TutelageError):
    """The next request would exceed the budget."""

    exit_code = 5


class StageError(TutelageError):
    """A stage failed while it ran. Finished results are kept; running the same command again continues."""

    exit_code = 6


class Interrupted(TutelageError):
    """The user asked to stop. Finished results are kept; running the same command again continues."""

    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelled name, to append to a message.

    The hint is '; did you mean X?', or the list of known names if none is similar; empty if no name is known.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
