"""The record of a failure, which a child process passes to its parent."""

from __future__ import annotations

import time

from attrs import frozen

from tutelage import errors
from tutelage.errors import StageError, TutelageError


@frozen
class Failure:
    """The error that ended a process."""

    kind: str
    """Name of the exception's class."""
    message: str
    seconds: float
    """Time of the error, by the clock that all processes of a machine share."""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return the record of an error that was raised just now."""
        message = str(error) if isinstance(error, TutelageError) else str(error).strip()
        return cls(type(error).__name__, message, time.monotonic())

    @property
    def is_plain(self) -> bool:
        """Whether the error is one of ``tutelage.errors``, whose message is shown to the user as it is."""
        kind = getattr(errors, self.kind, None)
        return isinstance(kind, type) and issubclass(kind, TutelageError)

    def error(self, doing: str) -> TutelageError:
        """Return the error to raise for the user.

        That is the same error if it ``is_plain``, else a ``StageError`` whose message begins with ``doing``.
        """
        if self.is_plain:
            kind: type[TutelageError] = getattr(errors, self.kind)
            return kind(self.message)
        return StageError(f"{doing} failed: {self.kind}: {self.message}")
