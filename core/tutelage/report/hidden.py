"""Characters that a browser would not show, or that change the order of the text around them."""

from __future__ import annotations

import re

HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters except tab and line feed, invisible and bidirectional format characters, and surrogates."""


def visible(text: str) -> str:
    """Return the text with each hidden character as its code point: ``[U+202E]``."""
    return HIDDEN.sub(lambda found: f"[{code_point(found[0])}]", text)


def code_point(character: str) -> str:
    """Return the code point of a character as text: ``U+202E``."""
    return f"U+{ord(character):04X}"
