"""The check of a service's address, for the settings of a plugin."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit


def check_address(instance: Any, attribute: Any, value: str) -> None:
    """Raise ``ValueError`` if the address is not http(s) with a host, or has a user name or password in it.

    A validator of attrs. The address is written to the ledger, to recipes and to messages, so it must not hold secrets.
    """
    if "@" in value:
        raise ValueError(f"{attribute.name} must not contain a user name or password: it is written to files")
    try:
        parts = urlsplit(value)
        is_address = (
            value.isprintable()
            and " " not in value
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
        )
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(f"{attribute.name} must be an address such as https://host/v1, not {value!r}")
