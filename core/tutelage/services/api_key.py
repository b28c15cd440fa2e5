"""The API key of a service: read from the environment, and refused before connecting if it cannot be a key."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from tutelage.errors import InputError
from tutelage.services.redaction import keep_out_of_logs
from tutelage.services.requests import Endpoint

_NO_KEY = "none"
"""Sent to a server on this machine that needs no key, because the SDKs require one."""
_KEY = re.compile(r"[!#-&(-_a-~]+")
"""Printable ASCII without spaces and quotation marks: the characters that a header may contain (RFC 9110, 5.5)."""


def secret_in(variables: Sequence[str]) -> str:
    """Return the first environment variable of these that is not empty or blank, unchanged; "" if there is none."""
    return next((value for name in variables if (value := os.environ.get(name, "")).strip()), "")


def key_to_send(endpoint: Endpoint, variables: Sequence[str]) -> str:
    """Return the key of the endpoint without white space around it, and keep it out of the logs.

    ``variables`` are the environment variables that it is read from. Raises ``InputError`` if the key has a character
    that no key has (an HTTP library would quote the key in its error), or if there is no key and the service needs one.
    """
    if not endpoint.secret.strip():
        if endpoint.on_this_machine:
            return _NO_KEY
        raise InputError(
            f"plugin {endpoint.provider!r} needs a key for {endpoint.base_url}: set the environment variable "
            f"{variables[0]}, or name another variable in the setting key_variable"
        )
    keep_out_of_logs(endpoint.secret)
    key = endpoint.secret.strip()
    if not _KEY.fullmatch(key):
        variable = next((name for name in variables if os.environ.get(name) == endpoint.secret), variables[0])
        raise InputError(
            f"the key in the environment variable {variable} contains {_first_wrong_character(key)}, which no key "
            "contains: copy the key again, without quotation marks"
        )
    return key


def _first_wrong_character(key: str) -> str:
    """The character in words and as a number, without the rest of the key."""
    wrong = next(character for character in key if not _KEY.fullmatch(character))
    kind = "white space" if wrong.isspace() else "a control character" if ord(wrong) < 32 else "the character"
    return f"{kind} U+{ord(wrong):04X}"
