"""The record of a failure that a child process hands to the process that started it."""

from __future__ import annotations

import time

from attrs import frozen

from tutelage import errors
from tutelage.errors import StageError, TutelageError


@frozen
class Failure:
    """Why a process failed."""

    kind: str
    """The name of the exception's class."""
    message: str
    seconds: float
    """When, by the clock that all processes of a machine share."""

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The record of an error that was raised just now."""
        message = str(error) if isinstance(error, TutelageError) else str(error).strip()
        return cls(type(error).__name__, message, time.monotonic())

    @property
    def is_plain(self) -> bool:
        """Whether it is an error of ``tutelage.errors``, whose message is meant for the user as it is."""
        kind = getattr(errors, self.kind, None)
        return isinstance(kind, type) and issubclass(kind, TutelageError)

    def error(self, doing: str) -> TutelageError:
        """The error for the user; any other than a plain one is a ``StageError`` that says what was being done."""
        if self.is_plain:
            kind: type[TutelageError] = getattr(errors, self.kind)
            return kind(self.message)
        return StageError(f"{doing} failed: {self.kind}: {self.message}")
