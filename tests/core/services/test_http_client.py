"""The HTTP client for SDKs, with the library of the installed SDK and a server that refuses or sends too much."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from api_servers import running

from tutelage.services.http_client import client_options, connection_problem, library_of, timeouts
from tutelage.services.problems import Permanent, Transient, Unusable
from tutelage.services.requests import Endpoint

openai = pytest.importorskip("openai", reason="openai is not installed; run: pip install 'tutelage[openai]'")
LIBRARY = library_of(openai.DefaultHttpxClient)


def get(url: str, most_bytes: int = 10_000, streamed: str = "") -> bytes:
    options = client_options(LIBRARY, Endpoint("p", url, "m"), most_bytes, streamed)
    with LIBRARY.Client(**options, timeout=timeouts(LIBRARY, 5.0)) as client:
        return bytes(client.get(url).content)


def test_a_body_is_limited_unless_it_is_streamed(tmp_path: Path) -> None:
    with running("openai", None) as server:
        url = f"{server.url}/v1/models"
        body = get(url)
        assert b"gpt-test" in body
        with pytest.raises(Permanent, match="larger than 10 bytes"):
            get(url, most_bytes=10)
        assert get(url, most_bytes=10, streamed="/models") == body


def test_a_closed_port_is_unreachable_and_a_wrong_scheme_is_unusable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(LIBRARY.ConnectError) as caught:
            get(f"http://127.0.0.1:{closed.getsockname()[1]}")
    problem = connection_problem(caught.value, "refused")
    assert isinstance(problem, Transient)
    assert problem.unreachable
    assert isinstance(connection_problem(LIBRARY.UnsupportedProtocol("ftp"), "ftp"), Unusable)
    timed_out = connection_problem(LIBRARY.ReadTimeout("slow"), "")
    assert isinstance(timed_out, Transient)
    assert (str(timed_out), timed_out.unreachable) == ("time-out: no answer", False)
