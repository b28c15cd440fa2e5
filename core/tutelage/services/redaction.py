"""Removal of an API key from texts: from answers, errors and the ledger, and from the logs of SDKs.

A library may quote a key in another form: with escape sequences (``repr``), percent-encoded, or without the white space
around it. All forms are removed.
"""

from __future__ import annotations

import html
import json
import logging
import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

REPLACEMENT = "[key]"
_SHORTEST_SECRET = 8
"""Characters. Shorter keys are placeholders for local servers (``EMPTY``, ``ollama``), which may occur in answers."""
_AROUND = " \t\r\n\f\v\ufeff\u00a0\u200b\"'`\u201c\u201d\u2018\u2019\u201e\u201a\u00ab\u00bb"
"""White space and quotation marks, which surround a key that was copied from a document."""


def redact(text: str, secret: str) -> str:
    """Return the text with every form of the secret replaced by ``[key]``, in upper and lower case."""
    pattern = _pattern(secret)
    return pattern.sub(REPLACEMENT, text) if pattern else text


def redact_values(value: Any, secret: str) -> Any:
    """Return a plain JSON value with the secret removed from every text and key."""
    if isinstance(value, str):
        return redact(value, secret)
    if isinstance(value, Mapping):
        return {redact(str(key), secret): redact_values(item, secret) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item, secret) for item in value]
    return value


@lru_cache(maxsize=32)
def _pattern(secret: str) -> re.Pattern[str] | None:
    forms = _forms(secret)
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if forms else None


def _forms(secret: str) -> set[str]:
    """The raw secret, the one without its surroundings, and the usual encodings of both."""
    forms = set[str]()
    for plain in (secret, secret.strip(), secret.strip(_AROUND), *secret.strip(_AROUND).split()):
        encoded = plain.encode("utf-8", "surrogateescape")
        forms |= {
            plain,
            repr(plain)[1:-1],
            ascii(plain)[1:-1],
            repr(encoded)[2:-1],
            json.dumps(plain)[1:-1],
            encoded.decode("latin-1"),  # a header in UTF-8, as a server reads it
            html.escape(plain),
            quote(encoded, safe=""),
            quote(encoded),
            quote_plus(encoded),
        }
    return {form for form in forms if len(form) >= _SHORTEST_SECRET}


class _RedactingFactory:
    """A factory of log records that removes the secrets. SDKs and HTTP libraries log headers and bodies at DEBUG."""

    def __init__(self, original: Any) -> None:
        self.secrets: set[str] = set()
        self._original = original

    def __call__(self, *args: Any, **keywords: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._original(*args, **keywords)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit: the handler reports this
            record.msg, record.args = self._redact(f"{record.msg} {record.args}"), None
            return record
        if (redacted := self._redact(message)) != message:
            record.msg, record.args = redacted, None
        if record.exc_info and record.exc_info[1] is not None:
            text = logging.Formatter().formatException(record.exc_info)
            if (redacted := self._redact(text)) != text:
                record.exc_info, record.exc_text = None, redacted
        return record

    def _redact(self, text: str) -> str:
        for secret in tuple(self.secrets):
            text = redact(text, secret)
        return text


_installing = threading.Lock()


def keep_out_of_logs(secret: str) -> None:
    """Remove the secret from every log record of this process from now on."""
    with _installing:
        factory = logging.getLogRecordFactory()
        if not isinstance(factory, _RedactingFactory):
            factory = _RedactingFactory(factory)
            logging.setLogRecordFactory(factory)
        factory.secrets.add(secret)


class WithoutExtras(logging.Filter):
    """A filter for a logger whose records carry a request with its headers in the attribute ``httpRequest``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the attribute; keep the record."""
        record.__dict__.pop("httpRequest", None)
        return True
