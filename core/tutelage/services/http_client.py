"""The HTTP client for SDKs that use httpx or httpx2: its checks of every response, and the meaning of its errors.

The functions get the library, because SDKs differ in which one they use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tutelage.services.problems import CallError, Transient, Unusable
from tutelage.services.requests import Endpoint
from tutelage.services.response_guard import ACCEPTED_ENCODINGS, check_redirect, checked_body

_CONNECT_SECONDS = 10.0


def library_of(client_class: type) -> Any:
    """Return the module of the HTTP library that a client class is derived from: httpx or httpx2."""
    base = next(cls for cls in client_class.__mro__ if cls.__module__.startswith("httpx"))
    return importlib.import_module(base.__module__.partition(".")[0])


def client_options(
    library: Any, endpoint: Endpoint, most_bytes: int, streamed: str = "", before: Callable[[Any], None] | None = None
) -> dict[str, Any]:
    """Return the arguments of a client: no redirects, no proxy to this machine, bodies of at most ``most_bytes``.

    The body of a response is checked and decompressed before the SDK reads it, except at paths that end with
    ``streamed``, whose body the plugin reads in pieces. ``before`` is called with each request.
    """

    def check(response: Any) -> None:
        url = str(response.request.url)
        if streamed and response.request.url.path.endswith(streamed) and response.status_code < 300:
            return
        try:
            check_redirect(url, response.status_code, response.headers.get("location"))
            body, headers = checked_body(url, response.status_code, response.headers, response.stream, most_bytes)
        finally:
            response.stream.close()
        response.stream = library.ByteStream(body)
        response.headers = library.Headers(headers)

    return {
        "follow_redirects": False,
        "headers": {"Accept-Encoding": ACCEPTED_ENCODINGS},
        "event_hooks": {"request": [before] if before else [], "response": [check]},
        # no proxy for a server on this machine: ``check_no_proxy`` has found that none is wanted
        "mounts": {"http://": None, "https://": None} if endpoint.on_this_machine else {},
    }


def timeouts(library: Any, seconds: float) -> Any:
    """Return the time-outs of one request."""
    return library.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))


def connection_problem(error: BaseException | None, message: str) -> CallError:
    """Classify an error of the library by its class; ``message`` is shown."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if "TimeoutException" in names:
        unreachable = "ConnectTimeout" in names
        return Transient("time-out: no connection" if unreachable else "time-out: no answer", unreachable=unreachable)
    if "CERTIFICATE" in message.upper():
        return Unusable(f"the certificate of the service is not trusted: {message}")
    if names & {"UnsupportedProtocol", "InvalidURL"}:
        return Unusable(f"base_url is not an address: {message}")
    return Transient(message, unreachable=bool(names & {"ConnectError", "ProxyError"}))
