"""What the statement of a score and that of a verdict have in common: markup inside them, and the text beside them."""

from __future__ import annotations

MARKUP = r"[\s*_`\"']{0,8}"
"""Regular expression: blanks, Markdown and quotation marks between the parts of a statement."""


def reason_beside(reply: str, start: int, end: int) -> str:
    """The reply without the statement from ``start`` to ``end``: the text after it, or before it if nothing follows."""
    after = reply[end:].lstrip(" \t\r\n.,;:-*_`").rstrip()
    return after or reply[:start].rstrip(" \t\r\n*_`\"'(").strip()
