"""The traceback of the error with which a process ended, kept in the folder of its run.

An error of a plugin is one line for the user. The author of the plugin needs the traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from tutelage.errors import TutelageError
from tutelage.planning.artifacts import TRACEBACK
from tutelage.runs.store import Store
from tutelage.services.redaction import redact


@contextmanager
def kept_traceback(store: Store, secrets: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Store the traceback of an error that another exception caused, and delete that of an earlier process.

    ``secrets`` returns the keys to remove from it. A disk that takes no more data does not hide the error.
    """
    path = store.path(TRACEBACK)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    try:
        yield
    except TutelageError as error:
        if _cause(error) is not None:
            text = "".join(traceback.format_exception(error))
            for secret in secrets():
                text = redact(text, secret)
            with suppress(OSError):
                path.write_text(text, encoding="utf-8")
        raise


def read_traceback(store: Store) -> str:
    """Return the traceback of the error with which the last process ended; empty if there is none."""
    path = store.path(TRACEBACK)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _cause(error: BaseException) -> BaseException | None:
    """The exception that is no ``TutelageError`` and caused this one; None if there is none."""
    cause = error.__cause__
    return _cause(cause) if isinstance(cause, TutelageError) else cause
