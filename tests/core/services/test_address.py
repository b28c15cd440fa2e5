"""The address of a service is checked when its settings are read, and holds no secret."""

from __future__ import annotations

import pytest
from attrs import field, frozen

from tutelage.errors import InputError
from tutelage.files.settings import structure
from tutelage.services.address import check_address


@frozen
class Settings:
    base_url: str = field(default="https://api.example", validator=check_address)


@pytest.mark.parametrize("url", ["https://api.example/v1", "http://127.0.0.1:8000", "http://[::1]/v1", "HTTPS://a"])
def test_addresses_are_accepted(url: str) -> None:
    assert structure(Settings, {"base_url": url}, "recipe").base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example/v1",
        "ftp://a",
        "https://",
        "http://a\n",
        "http://a /v1",
        "http://a:99999",
        "http://[::1",
        "file:///a",
    ],
)
def test_what_is_no_address_is_an_error(url: str) -> None:
    with pytest.raises(InputError, match=r"recipe: base_url: .*an address such as https://host/v1"):
        structure(Settings, {"base_url": url}, "recipe")


@pytest.mark.parametrize("url", ["https://user:secret@a/v1", "user:secret@a", "ftp://secret@a", "http://secret@[::1"])
def test_a_password_in_an_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InputError, match="must not contain a user name or password") as caught:
        structure(Settings, {"base_url": url}, "recipe")
    assert "secret" not in str(caught.value)
