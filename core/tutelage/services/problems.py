"""The exceptions that a plugin's ``ask`` raises to classify a failed call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime


class CallError(Exception):
    """A call without an answer. The message is shown to the user; the API key is removed from it."""


class Transient(CallError):
    """A retry may succeed: a time-out, a dropped connection, status 429 or 5xx, an incomplete reply."""

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        too_fast: bool = False,
        unreachable: bool = False,
    ) -> None:
        """``retry_after``: seconds, if the service gave them. ``too_fast``: whether a rate limit was exceeded.

        ``unreachable``: whether no connection was made (closed port, unknown host). If the service was never reached,
        the step stops after a few attempts.
        """
        super().__init__(message)
        self.retry_after = retry_after
        self.too_fast = too_fast
        self.unreachable = unreachable


class Refused(CallError):
    """The service declined or blocked this request. The refusal is stored; ``--ask-refused-again`` sends it again."""


class Permanent(CallError):
    """This request can never succeed (too long, malformed). It is not stored."""


class Unreadable(CallError):
    """The service sent a complete reply that is not what its protocol says. The reply was paid for, so it is stored as
    ``Outcome.UNPARSED`` and the request is not sent again."""


class Unusable(CallError):
    """No request can succeed: invalid key, unknown model, empty account. The step stops.

    The message is the service's own text and what to change; plugin, model and address are added to it.
    """


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header (RFC 9110, 10.2.3: seconds or a date).

    None if there is no such header, or if it is invalid.
    """
    text = (headers or {}).get("retry-after") or (headers or {}).get("Retry-After")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
