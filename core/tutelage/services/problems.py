"""The exceptions by which a plugin tells what a call's failure means; it raises them from its ``ask``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime


class CallError(Exception):
    """A call that brought no answer. The message is for the user; the key is struck from it."""


class Transient(CallError):
    """It may go well the next time: a time-out, a dropped connection, 429, 5xx, a reply that isn't whole."""

    def __init__(self, message: str, retry_after: float | None = None, too_fast: bool = False) -> None:
        """``retry_after`` in seconds, as the service asks for; ``too_fast`` where it says that we ask too much."""
        super().__init__(message)
        self.retry_after = retry_after
        self.too_fast = too_fast


class Refused(CallError):
    """The service declined or blocked this request. It is kept as a refusal, and asked again only by request."""


class Permanent(CallError):
    """This one request can never go well (too long, malformed). It is not kept."""


class Unusable(CallError):
    """No request can go well: the key is wrong, the model is gone, the account is empty. The step stops."""


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait (RFC 9110, 10.2.3: seconds or a date), None without one."""
    text = (headers or {}).get("retry-after") or (headers or {}).get("Retry-After")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
