"""A proxy of the environment that would receive the requests to a server on this machine is named."""

from __future__ import annotations

import pytest

from tutelage.services.proxies import CaughtByProxyError, check_no_proxy
from tutelage.services.requests import Endpoint


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


def check(url: str) -> None:
    check_no_proxy(Endpoint("shouty", url, "m"))


def is_accepted(url: str) -> bool:
    try:
        check(url)
    except CaughtByProxyError:
        return False
    return True


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:8000/v1"),
        ("http_proxy", "http://localhost:8000"),
        ("HTTPS_PROXY", "https://localhost"),
        ("ALL_PROXY", "http://[::1]:8000"),
    ],
)
def test_the_variable_and_the_proxy_are_named_without_its_password(
    variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://user:word@proxy.example:3128")
    message = rf"go through the proxy proxy\.example:3128 of the environment variable {variable}: set NO_PROXY="
    with pytest.raises(CaughtByProxyError, match=message) as caught:
        check(url)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "localhost, 127.0.0.1", "127.0.0.1:8000", "127.0.0.0/8"])
def test_a_server_that_no_proxy_names_is_reached(exempt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert not is_accepted("http://127.0.0.1:8000/v1")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert is_accepted("http://127.0.0.1:8000/v1")


def test_a_proxy_of_another_scheme_and_a_service_elsewhere_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert is_accepted("http://127.0.0.1:8000/v1")
    assert is_accepted("https://api.shouty.example/v1")
