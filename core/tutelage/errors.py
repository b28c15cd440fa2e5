"""Errors for the person who reads them: what was wrong, where, and what to do. Each has its own exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """Any error whose message is meant for the user; the command line prints it without a traceback."""

    exit_code = 1


class InputError(TutelageError):
    """A recipe, an option or a data file is wrong. Nothing has been run, nothing written."""

    exit_code = 2


class PluginError(TutelageError):
    """A plugin is missing, broken, or did not do what its hook promises."""

    exit_code = 3


class RunLockedError(TutelageError):
    """Another process is working on this run."""

    exit_code = 4


class BudgetError(TutelageError):
    """The next request would pass the budget."""

    exit_code = 5


class StageError(TutelageError):
    """A stage failed while it ran; what it had finished is kept, and the same command continues."""

    exit_code = 6


class Interrupted(TutelageError):
    """The user asked to stop; what was finished is kept, and the same command continues."""

    exit_code = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelled word: '; did you mean X?' or, where nothing is near, the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
