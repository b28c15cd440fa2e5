"""The HTTP adapter of the SDK's session: no redirect, no proxy to this machine, bodies of a limited size.

The body of a reply is kept for ``take_body``, and the SDK gets an empty object. The SDK's parser (protobuf) drops the
fields that it does not know, such as the mark of a thought, and raises an error for a reply with one odd value. Its
parser of errors fails at every format but Google's, so the body of an error is kept, too, as ``checked_body``.
"""

from __future__ import annotations

import io
import threading
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tutelage.services.problems import Transient
from tutelage.services.requests import Limits
from tutelage.services.response_guard import ACCEPTED_ENCODINGS, checked_body

_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 65_536
_NOTHING = b"{}"


class CheckingAdapter(HTTPAdapter):
    """Sends requests, and checks each response before the SDK reads it. Used by several threads."""

    def __init__(self, limits: Limits, direct: bool, keeps_bodies: bool) -> None:
        """``direct``: no proxy is used. ``keeps_bodies``: the body of a reply is kept for ``take_body``."""
        # one connection per request in flight: with the default of ten, connections would be reopened constantly
        super().__init__(pool_connections=1, pool_maxsize=limits.in_flight)
        self._most_bytes = limits.response_bytes
        self._direct = direct
        self._keeps_bodies = keeps_bodies
        self._received = threading.local()

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Return the response with its checked body. Raises ``CallError`` if a check fails."""
        if self._direct:
            options["proxies"] = None
        if isinstance(timeout := options.get("timeout"), int | float):
            options["timeout"] = (min(timeout, _CONNECT_SECONDS), timeout)
        request.headers["Accept-Encoding"] = ACCEPTED_ENCODINGS
        response = super().send(request, *args, **{**options, "stream": True})
        raw = response.raw
        try:
            chunks = raw.stream(_CHUNK_BYTES, decode_content=False)
            body, headers = checked_body(
                str(request.url), response.status_code, response.headers, chunks, self._most_bytes
            )
        except ReadTimeoutError:
            raise Transient("time-out: no answer") from None
        except HTTPError as error:
            raise Transient(f"the connection ended before the reply: {error}") from None
        finally:
            raw.close()
        if not response.ok:
            response.checked_body, body = body, _NOTHING  # type: ignore[attr-defined]  # read by `problem_of`
        elif self._keeps_bodies:
            self._received.body, body = body, _NOTHING
        response.raw = io.BytesIO(body)
        response.headers = CaseInsensitiveDict(headers)
        return response

    def take_body(self) -> bytes:
        """Return the body of the last reply that this thread received."""
        body: bytes = self._received.__dict__.pop("body", b"")
        return body
