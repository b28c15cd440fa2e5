"""The warnings of a child process, which its parent logs again: the stderr of a child is shown only if it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_PLUGIN = logging.getLogger("tutelage_transformers")


class _Sender(logging.Handler):
    def __init__(self, send: Callable[[Any], object]) -> None:
        super().__init__(logging.WARNING)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a warning. If that fails, the log of this process has the reason, and its work goes on."""
        try:
            text = self.format(record).encode("utf-8", "backslashreplace").decode()  # a surrogate cannot be sent
            once = getattr(record, "once", None)
            self._send({"logger": record.name, "level": record.levelno, "text": text, "once": once})
        except Exception:
            self.handleError(record)


@contextmanager
def sent_by(send: Callable[[Any], object]) -> Iterator[None]:
    """Give the warnings that this plugin logs to ``send``, as JSON values, in place of the stderr of this process."""
    sender = _Sender(send)
    _PLUGIN.addHandler(sender)
    try:
        yield
    finally:
        _PLUGIN.removeHandler(sender)


def log_again(warning: Mapping[str, Any]) -> None:
    """Log a warning that a child process has sent, by the same logger. An error of a handler ends no work."""
    with suppress(Exception):
        logger = logging.getLogger(warning["logger"])
        logger.log(warning["level"], warning["text"], extra={"once": warning["once"]})
