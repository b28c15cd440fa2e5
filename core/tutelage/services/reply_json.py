"""The JSON of a reply, parsed without limits on what a service may send, and typed look-ups in it.

A reply that arrived completely was paid for. If it is not what the protocol says, it is ``Unreadable``, which is stored
and not requested again. Only a reply that is incomplete, or that does not come from the service (the HTML page of a
gateway), is ``Transient``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tutelage.services.problems import Transient, Unreadable

_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_BEGUN_WORDS = (word[:end] for word in _WORDS for end in range(1, len(word)))
_BEGUN_VALUES = {"", ".", "e", "E", "e+", "e-", "E+", "E-", *_BEGUN_WORDS}
"""What remains after the place of the error if a text was cut in a value."""
_LOWEST = -1e6
"""Log-probabilities below this are not used. Services send about -100 or -9999 for a token without probability."""
_ESCAPE_LENGTH = len(r"\u0041")

Pairs = list[tuple[str, float]]

_LONGEST_NUMBER = 400
"""Digits of the longest number that is parsed as an integer; Python refuses to parse more than 4,300 digits."""
_MOST_VALUES = 200_000
"""A value takes some 60 bytes of memory, and may be two bytes of the body. 2,000 tokens with ten alternatives each have
180,000 values."""
_EVENT_STREAM = ("data:", "event:", ":")
"""How the lines of a server-sent event stream begin (HTML Standard, 9.2.6)."""


def parse_reply(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a successful response.

    Invalid UTF-8 becomes replacement characters, and a number of too many digits becomes a float (perhaps infinite).
    Raises ``Transient`` if the body is incomplete, empty or no JSON, and ``Unreadable`` if it is complete but is no
    object, is malformed, is nested too deeply or has too many values.
    """
    if body.count(b",") + body.count(b"[") > _MOST_VALUES:
        raise Unreadable(f"the reply has more than {_MOST_VALUES:,} values")
    text = body.decode(json.detect_encoding(body), "replace").strip().lstrip("\ufeff")
    if text.startswith(_EVENT_STREAM):
        raise Unreadable("the reply is a stream of events, which was not requested")
    if not text.startswith(("{", "[")):
        raise Transient(f"the reply is not JSON: {text}" if text else "the reply is empty")
    try:
        value = json.loads(text, parse_int=_whole_number, strict=False)
    except RecursionError:
        raise Unreadable("the reply is nested too deeply") from None
    except json.JSONDecodeError as error:
        if _is_cut(error, text):
            raise Transient("the reply is not complete JSON") from None
        raise Unreadable(f"the reply is malformed JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"the reply is a JSON {type(value).__name__}, not an object")
    if not value:
        raise Transient("the reply is an empty object")
    return value


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float(digits)


def _is_cut(error: json.JSONDecodeError, text: str) -> bool:
    """Whether the parser needed more text: it was in a string, in a value, or before the next delimiter."""
    if error.msg.startswith("Unterminated string"):
        return True
    left = text[error.pos :]
    return left in _BEGUN_VALUES or (error.msg.startswith("Invalid \\u") and len(left) < _ESCAPE_LENGTH)


def object_at(value: object, key: str) -> Mapping[str, Any]:
    """Return ``value[key]`` if both are JSON objects, otherwise an empty mapping."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def list_at(value: object, key: str) -> list[Any]:
    """Return ``value[key]`` if ``value`` is a JSON object and the result a list, otherwise an empty list."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def text_at(value: object, key: str) -> str:
    """Return ``value[key]`` if ``value`` is a JSON object and the result a text, otherwise an empty text."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def log_probabilities(items: Iterable[object], token_key: str, value_key: str) -> Pairs:
    """Return (token, log-probability) of each item that has a token and a log-probability of at most 0."""
    pairs: Pairs = []
    for item in items:
        value = item.get(value_key) if isinstance(item, Mapping) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not _LOWEST <= value <= 0:
            continue
        token = item.get(token_key) if isinstance(item, Mapping) else None
        if isinstance(token, str):
            pairs.append((token, float(value)))
    return pairs
