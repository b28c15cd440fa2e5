"""The text around a statement of a score or a verdict: its markup, and the words that decide whether it counts."""

from __future__ import annotations

import re
from typing import Literal

from tutelage.preferences.stated_numbers import BLANKS, UNIT

MARKUP = r"[\s*_`\"']{0,8}"
"""Regular expression: blanks, Markdown and quotation marks between the parts of a statement."""
_CONTEXT = 80
"""Number of characters before a statement that decide whether it counts."""
_BETWEEN_WORDS = r"[\s*_`\"'\u201c\u2019(]+"
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|no|without|hardly|instead[ \t]+of|rather[ \t]+than|refus\w+[ \t]+to)"
    r"|n['\u2019]t)"
    rf"{_BETWEEN_WORDS}(?:(?:giv\w+|assign\w*|award\w*|deserv\w*|merit\w*|warrant\w*|justif\w*|earn\w*|receiv\w*|get\w*"
    r"|say|state|be|been|have|has|call|rate|mark|worth|it|this|that|them|the|an?|any|answer|response|reply|with|of|for|as"
    rf"|to|full|perfect|final|overall|total|max|maximum|highest|top|your|my|its)\b{_BETWEEN_WORDS}){{0,8}}\Z",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"{UNIT}[*_`\"')]*+{BLANKS}(?:[?\uff1f]|(?:(?:is|was|would|will|does|do|can|could|should|seems?|might|may)"
    r"(?:n['\u2019]t\b|[ \t]+(?:not|never|hardly|(?:be[ \t]+|seem[ \t]+|have[ \t]+been[ \t]+)?too)\b)"
    r"|(?:cannot|can['\u2019]t|won['\u2019]t)\b))",
    re.IGNORECASE,
)
_LIMIT_BEFORE = re.compile(
    r"\b(?:(?P<highest>max(?:imum|imal|\.)?|highest|possible|attainable|achievable|available)|min(?:imum|imal|\.)?|lowest)"
    r"(?:[\s_*`\"'-]+(?:possible|total|attainable|achievable|available|overall))?[\s_*`\"'-]*\Z",
    re.IGNORECASE,
)
_GIVES = re.compile(r"\b(?:giv|award|assign|deserv|merit|earn|get|receiv|warrant)\w*\b", re.IGNORECASE)
_NOTHING_BEFORE = re.compile(r"(?:\A|[.!?;])[\s*_`\"'\u201c(\[>#-]*\Z")
_RATES_BEFORE = re.compile(
    r"\b(?:rat(?:ed|ing)|rates?[ \t]+(?:it|this|that|the[ \t]+(?:answer|response|reply))|graded?|scor(?:e|es|ed|ing)|"
    r"award(?:s|ed)?|assign(?:s|ed)?|deserv(?:es?|ing)|merits?|earn(?:s|ed)?|receiv(?:es?|ed)|verdict|overall|"
    r"judge?ment|evaluation|assessment|(?:final|total)(?=[\s*_`]*:)|points?(?=[\s*_`]*:)|"
    r"I(?:['\u2019](?:d|ll|ve|m))?(?:[ \t]+(?:would|will|can|could|must|should|have|am|therefore|also|only)){0,4}"
    r"[ \t]+(?:give|gave|given|giving|rate|grade|score)|"
    r"g[ai]ves?[ \t]+(?:it|this|that|the[ \t]+(?:answer|response|reply)))"
    r"(?:[\s:=\uff1a*_`\"'\u201c\u2019(\u2013\u2014-]+(?:is|was|it|its|this|that|the|an?|answer|response|reply|be|been|as|"
    r"at|of|to|with|solid|strong|weak|good|full|only|just|about|my|your|would|will|overall|total|final|score|rating|"
    r"grade|assistant|model|them|points?)\b){0,10}[\s:=\uff1a*_`\"'\u201c\u2019(\u2013\u2014-]*\Z",
    re.IGNORECASE,
)


def is_denied(reply: str, start: int, end: int) -> bool:
    """Whether the text around a statement denies or doubts it: "not score: 5", "score: 5 would be too high"."""
    return bool(_DENIED_BEFORE.search(_before(reply, start)) or _DENIED_AFTER.match(reply, end))


def limit_named(reply: str, start: int) -> Literal["highest", "lowest"] | None:
    """The limit of the scale that the text before a score makes of it: "Max score: 5"; None if it makes none of it.

    "I give the maximum score: 5" states a score.
    """
    before = _before(reply, start)
    match = _LIMIT_BEFORE.search(before)
    if match is None or _GIVES.search(before):
        return None
    return "highest" if match["highest"] else "lowest"


def rates_answer(reply: str, start: int) -> bool:
    """Whether the text before a fraction makes it a rating: the start of a clause, or words such as "I give it"."""
    before = _before(reply, start)
    return bool(_NOTHING_BEFORE.search(before) or _RATES_BEFORE.search(before))


def reason_beside(reply: str, start: int, end: int) -> str:
    """The reply without the statement from ``start`` to ``end``: the text after it, or before it if nothing follows."""
    after = reply[end:].lstrip(" \t\r\n.,;:-*_`").rstrip()
    return after or reply[:start].rstrip(" \t\r\n*_`\"'(").strip()


def _before(reply: str, start: int) -> str:
    """The end of the line before a position; a letter stands for the part of a longer line that is left out."""
    line = reply[max(0, start - _CONTEXT) : start].rpartition("\n")[2]
    return f"x{line}" if len(line) == _CONTEXT else line
