"""Strict parser of JSON: it refuses what Python's parser accepts and UTF-8, floats or recursion do not.

Python's parser accepts half of a surrogate pair, which cannot be written as UTF-8; NaN and numbers beyond the range of
a float; integers whose digits Python refuses to convert; keys given twice, of which it drops the first; and nesting
that later exceeds the recursion limit. Each of them fails far from the line that causes it.
"""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Callable
from typing import Any, NoReturn

DEEPEST = 100
"""Maximum nesting of lists and objects, far below Python's recursion limit."""
HALF_PAIR = "half of a surrogate pair, which is not a character"

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]|[^\s"\[\]{}:,]+', re.DOTALL)
"""A string, a punctuation mark or another word: a number, ``true``, ``null``, ``NaN``."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHORT = 300
"""Number of characters of a number that surely is a finite float. The largest float has 309 digits."""


class NotJson(ValueError):
    """A text is not JSON in UTF-8; the message is the reason."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line
        """Line of the text, from 1."""


class RefusedValue(NotJson):
    """A value is refused. Text of the message after the first colon is specific to the value."""


class _Refused(ValueError):
    """The parser met a value that is refused; ``_fault`` finds its position."""


def parse(data: bytes, nan: bool = False) -> Any:
    """Parse a JSON text in UTF-8, with a byte-order mark or without. ``nan`` accepts NaN.

    Raises ``NotJson`` if it is neither, and its subclass ``RefusedValue`` if it holds half of a surrogate pair, a
    number that is not a finite float, a key twice in one object, or more than ``DEEPEST`` lists and objects in each
    other.
    """
    data = data.removeprefix(BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotJson(f"not UTF-8 (byte {error.start}); save the file as UTF-8", line) from error
    if text.count("[") + text.count("{") > DEEPEST or _SURROGATE.search(text):
        _raise_fault(text, nan)
    try:
        return (_WITH_NAN if nan else _STRICT).decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON ({error.msg} at column {error.colno})", error.lineno) from error
    except _Refused as error:
        _raise_fault(text, nan)
        raise RefusedValue(str(error)) from error


def _raise_fault(text: str, nan: bool) -> None:
    """Raise ``RefusedValue`` with the position of the first value that is refused, if there is one."""
    if (found := _fault(text, nan)) is not None:
        position, kind, value = found
        column = position - text.rfind("\n", 0, position)
        line = text.count("\n", 0, position) + 1
        raise RefusedValue(f"{kind}: {value}column {column}", line)


def _fault(text: str, nan: bool) -> tuple[int, str, str] | None:
    """Position, reason and text of the first value that is refused, in a text that may violate the syntax elsewhere."""
    open_keys: list[set[str]] = []
    key = ""
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in "[{":
            open_keys.append(set())
            if len(open_keys) > DEEPEST:
                return token.start(), f"nested deeper than {DEEPEST} levels", ""
        elif word in "]}":
            del open_keys[-1:]
        elif word == ":" and open_keys:
            if key in open_keys[-1]:
                return token.start(), "a key is given twice", f"{_shown(repr(key))}, "
            open_keys[-1].add(key)
        elif word[0] == '"':
            if (half := _half_pair(word)) is not None:
                return token.start() + half.start(), HALF_PAIR, f"{half[0]}, "
            key = _decoded(word) if "\\" in word else word[1:-1]
        elif problem := _number_problem(word, nan):
            return token.start(), problem, f"{_shown(word)}, "
    return None


def _half_pair(string: str) -> re.Match[str] | None:
    """The first escape of a string that is one half of a surrogate pair without the other."""
    high: re.Match[str] | None = None
    for escape in _ESCAPE.finditer(string):
        code = int(escape[1], 16) if escape[1] else 0
        is_low = 0xDC00 <= code <= 0xDFFF
        if high is not None and not (is_low and escape.start() == high.end()):
            return high
        if is_low and high is None:
            return escape
        high = escape if 0xD800 <= code <= 0xDBFF else None
    return high


def _decoded(string: str) -> str:
    try:
        return str(json.loads(string))
    except json.JSONDecodeError:
        return string


def _number_problem(word: str, nan: bool) -> str:
    if word in ("NaN", "Infinity", "-Infinity"):
        return "" if nan and word == "NaN" else "not a number of JSON (use null for no value)"
    try:
        is_finite = math.isfinite(float(word))
    except ValueError:
        return ""
    return "" if is_finite else "a number too large for a float"


def _shown(word: str) -> str:
    return word if len(word) <= 40 else f"{word[:40]}... ({len(word):,} characters)"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Refused("a key is given twice")
    return made


def _finite(read: Callable[[str], Any], word: str) -> Any:
    may_be_large = len(word) > _SHORT or "e" in word or "E" in word
    if may_be_large and not math.isfinite(float(word)):
        raise _Refused("a number is too large for a float")
    return read(word)


def _constant(word: str) -> NoReturn:
    raise _Refused(f"not a number of JSON: {word}")


def _nan(word: str) -> float:
    if word != "NaN":
        _constant(word)
    return math.nan


def _decoder(constant: Callable[[str], Any]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=lambda word: _finite(int, word),
        parse_float=lambda word: _finite(float, word),
        parse_constant=constant,
    )


_STRICT, _WITH_NAN = _decoder(_constant), _decoder(_nan)
