"""A key is stripped, or refused before connecting; the error names the variable and never the key."""

from __future__ import annotations

import pytest

from tutelage.errors import InputError
from tutelage.services.api_key import key_to_send, secret_in
from tutelage.services.requests import Endpoint

KEY = "sk-canary-0123456789"
VARIABLES = ("NEW_KEY", "OLD_KEY")


def endpoint(secret: str, url: str = "https://api.shouty.example") -> Endpoint:
    return Endpoint("shouty", url, "m", secret=secret)


def test_the_first_variable_that_is_not_blank_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert secret_in(VARIABLES) == ""
    monkeypatch.setenv("NEW_KEY", " \r\n")
    monkeypatch.setenv("OLD_KEY", f"{KEY}\n")
    assert secret_in(VARIABLES) == f"{KEY}\n"


@pytest.mark.parametrize("form", ["{}", "{}\n", "\n{}", " {} ", "{}\r\n", "\t{}\u00a0"])
def test_white_space_around_a_key_is_removed(form: str) -> None:
    assert key_to_send(endpoint(form.format(KEY)), VARIABLES) == KEY


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("\u201c{}\u201d", "the character U+201C"),
        ("'{}'", "the character U+0027"),
        ("`{}`", "the character U+0060"),
        ("{} {}", "white space U+0020"),
        ("{}\n{}", "white space U+000A"),
        ("\x1b{}", "a control character U+001B"),
        ("{}\u200b", "the character U+200B"),
        ("{}\udc80", "the character U+DC80"),
        ("{}\u00e9", "the character U+00E9"),
    ],
)
def test_a_malformed_key_is_refused_without_being_quoted(
    form: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = form.format(KEY, KEY)
    monkeypatch.delenv("NEW_KEY", raising=False)
    monkeypatch.setenv("OLD_KEY", secret)
    with pytest.raises(InputError, match=r"environment variable OLD_KEY contains") as caught:
        key_to_send(endpoint(secret), VARIABLES)
    assert named in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("blank", ["", "\n", "  "])
def test_a_service_needs_a_key_and_a_server_on_this_machine_does_not(blank: str) -> None:
    with pytest.raises(InputError, match=r"plugin 'shouty' needs a key .*environment variable NEW_KEY"):
        key_to_send(endpoint(blank), VARIABLES)
    assert key_to_send(endpoint(blank, "http://localhost:8000"), VARIABLES) == "none"
