"""The number that a reply states at one position: a plain number or a sum, with its maximum.

The text that directly follows the number decides. If another number ("4, 5"), a percent sign or the rest of a word
follows, the number is not a score. A maximum ("4/5", "4 out of 10", "4 (on a scale of 1-10)") is returned with the
number. A word or the end of the line ends the number.

The patterns need linear time on any reply: their repetitions are possessive or bounded.
"""

from __future__ import annotations

import re

from attrs import evolve, frozen

BLANKS = r"[ \t\u00a0]*+"
"""Regular expression: blanks within a line."""
NUMBER = r"[0-9]++(?:\.[0-9]++)?+"
"""Regular expression: an unsigned decimal number."""
ANY_NUMBER = r"\d++(?:\.\d++)?+"
"""Regular expression: the same with the digits of any script; such a number is no score, but it is a number."""
UNIT = rf"(?:{BLANKS}-?(?:points?|pts?|stars?|marks?)\b)?+"
"""Regular expression: the optional unit of a score."""
FROM_TO = rf"{BLANKS}(?:[-\u2010-\u2015\u2212~\uff5e\u301c\u2026/]|\.{{2,3}}|(?:to|and|through)\b){BLANKS}"
"""Regular expression: the text between the lowest and the highest number of a scale."""

_QUOTES = r"[*_`\"'\u201c\u201d\u2019]{0,8}+"
_GAP = rf"{BLANKS}{_QUOTES}{BLANKS}"
_AFTER_NUMBER = rf"{_GAP}{UNIT}{_GAP}"
_OPEN, _CLOSE = r"[(\[\uff08]", r"[)\]\uff09]"
_DASHES = r"\u2010-\u2015"
_PLUS, _MINUS = r"+\uff0b", r"\-\u2212\u2013"

_COUNTS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_COUNTS |= {"ten": 10, "twenty": 20, "hundred": 100}
_COUNT = rf"(?P<count>{ANY_NUMBER}|(?:{'|'.join(_COUNTS)})\b)"

_AFTER_TERM = rf"{_QUOTES}{UNIT}(?:{BLANKS}\([^()\n]{{0,80}}+\))?+"
_TERM = re.compile(rf"(?P<sign>[{_PLUS}{_MINUS}]?){BLANKS}(?P<number>{NUMBER}){_AFTER_TERM}", re.IGNORECASE)
_SUM_WITH_RESULT = re.compile(
    rf"(?P<terms>[+-]?{NUMBER}{_AFTER_TERM}(?:{BLANKS}[{_PLUS}{_MINUS}]{BLANKS}{NUMBER}{_AFTER_TERM})*+)"
    rf"{BLANKS}[=\uff1d]{BLANKS}{_QUOTES}(?P<result>[+-]?{NUMBER})",
    re.IGNORECASE,
)
_SUM = re.compile(rf"[+-]?{NUMBER}{_AFTER_TERM}(?:{BLANKS}[{_PLUS}]{BLANKS}{NUMBER}{_AFTER_TERM})++", re.IGNORECASE)
_PLAIN_NUMBER = re.compile(rf"[+-]?{NUMBER}")

_BEFORE_MAXIMUM = rf"{_AFTER_NUMBER}[,;:]?{BLANKS}[-{_DASHES}]{{0,2}}{BLANKS}(?P<open>{_OPEN})?{BLANKS}"
_ON_A = r"(?:(?:on|in|within|using)[ \t]+)?(?:(?:an?|the|this|our|my)[ \t]+)?"
_MAXIMUM = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # 4/5, 4 out of 10, 4 of a possible 10, 4 (4 of 10)
        rf"{_BEFORE_MAXIMUM}(?(open)(?:(?P<again>{ANY_NUMBER}){BLANKS})?)(?:[/\uff0f\u2044\u2215]|(?:out[ \t]+)?of\b)"
        rf"{BLANKS}(?:(?:an?|the|possible|total|maximum|max\.?|of|score|points?)[ \t]+){{0,6}}{_QUOTES}{_COUNT}",
        # 4 on a scale of 1-10, 4 (scale: 0 to 10)
        rf"{_BEFORE_MAXIMUM}{_ON_A}(?:rating[ \t]+|grading[ \t]+)?(?:scale|range)(?:[ \t]+(?:of|from|is|between))?+"
        rf"[ \t:=]*+(?:{ANY_NUMBER}{FROM_TO})?{_COUNT}",
        # 4 on a 10-point scale
        rf"{_BEFORE_MAXIMUM}{_ON_A}{_COUNT}[ \t-]?(?:points?|stars?|grades?)?[ \t-]{{1,4}}(?:scale|system|rubric)\b",
        # 4 (max 10), 4, highest possible: 10
        rf"{_BEFORE_MAXIMUM}(?:max(?:imum|imal|\.)?|highest)(?:[ \t]+(?:possible|score|points?|is|of)){{0,4}}"
        rf"[ \t:=]*+{_COUNT}",
        # 4 (1-10), 4 (10 max)
        rf"{_AFTER_NUMBER}(?P<open>{_OPEN}){BLANKS}{ANY_NUMBER}{FROM_TO}{_COUNT}(?={BLANKS}{_CLOSE})",
        rf"{_AFTER_NUMBER}(?P<open>{_OPEN}){BLANKS}{_COUNT}{UNIT}[ \t]+max(?:imum|\.)?",
    )
)
_AFTER_MAXIMUM = re.compile(rf"{UNIT}{BLANKS}{_CLOSE}", re.IGNORECASE)

_UNFINISHED = re.compile(r"_*+[^\W_]|[.,:]\d")
_PERCENT = re.compile(rf"{_GAP}(?:[%\uff05\u2030]|per[ \t-]?cent)", re.IGNORECASE)
_RANGE = (
    rf"[-{_DASHES}\u2212~\uff5e\u301c\u2026\u00b1/|]|-{{1,3}}>?|=>|\u2192|\.{{2,3}}"
    r"|(?:to|or|and|through|until|vs\.?)\b"
)
_CORRECTION = (
    r"[,\uff0c;\uff1b\u3001&+]|[.!](?=[ \t]+(?:no|wait|actually|correction|sorry)\b)"
    r"|(?:no|nope|maybe|perhaps|possibly|rather|actually|wait|sorry|correction|almost|nearly|even|then"
    r"|make[ \t]+(?:it|that)|i[ \t]+mean|more[ \t]+like|closer[ \t]+to|up[ \t]+to)\b"
)
_FRACTION_SIGNS = r"\u00bc-\u00be\u2150-\u215e"
_ANOTHER = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_AFTER_NUMBER}(?:{_OPEN}{BLANKS}(?=[a-z]))?(?P<between>(?:(?:{_RANGE}|{_CORRECTION}){BLANKS}){{0,5}})"
        rf"{_QUOTES}[+-]?(?:{ANY_NUMBER}|[{_FRACTION_SIGNS}])",
        rf"{_AFTER_NUMBER}(?P<between>(?:to|or)\b|~){BLANKS}(?:{'|'.join(set(_COUNTS) - {'zero', 'one'})})\b",
    )
)
_IN_BRACKETS = re.compile(
    rf"{_AFTER_NUMBER}{_OPEN}{BLANKS}(?P<number>{ANY_NUMBER}){UNIT}{BLANKS}{_CLOSE}", re.IGNORECASE
)
_IS_CORRECTION = re.compile(_CORRECTION, re.IGNORECASE)
_SHOWN = 40
"""Number of characters of a reply that a problem quotes."""


@frozen
class StatedNumber:
    """A number that a reply states."""

    text: str
    """The number as the reply writes it; the result of a sum."""
    value: float
    end: int
    """Position in the reply after the number and its maximum."""
    maximum: float | None = None
    """The maximum that directly follows the number; None if there is none."""
    problem: str = ""
    """The reason why it is not one plain number; empty if it is."""


def read_number(reply: str, start: int) -> StatedNumber | None:
    """The number that is stated at the position ``start``; None if there is none."""
    read = _sum(reply, start) or _plain(reply, start)
    if read is None or read.problem:
        return read
    if problem := _other_kind(reply, read.end):
        return evolve(read, problem=problem)
    maximum, end = _maximum(reply, read.end, read.value)
    problem = _other_kind(reply, end) or _another(reply, start, end, read.value)
    return evolve(read, end=end, maximum=maximum, problem=problem)


def _plain(reply: str, start: int) -> StatedNumber | None:
    match = _PLAIN_NUMBER.match(reply, start)
    return StatedNumber(match[0], float(match[0]), match.end()) if match else None


def _sum(reply: str, start: int) -> StatedNumber | None:
    """A sum by its result: the stated one, which must be right, or the computed one."""
    if match := _SUM_WITH_RESULT.match(reply, start):
        result, value = match["result"], float(match["result"])
        right = abs(_total(match["terms"]) - value) < 1e-6
        problem = "" if right else f"the reply contradicts itself: {_shown(match[0])}"
        return StatedNumber(result, value, match.end(), problem=problem)
    if match := _SUM.match(reply, start):
        value = _total(match[0])
        return StatedNumber(f"{value:g}", value, match.end())
    return None


def _total(terms: str) -> float:
    return sum(
        float(term["number"]) * (1 if term["sign"] in ("", "+", "\uff0b") else -1) for term in _TERM.finditer(terms)
    )


def _maximum(reply: str, end: int, value: float) -> tuple[float | None, int]:
    """The maximum that follows a number which ends at ``end``, and the position after it."""
    for pattern in _MAXIMUM:
        match = pattern.match(reply, end)
        if match is None:
            continue
        named = match.groupdict()
        if (again := named.get("again")) is not None and float(again) != value:
            continue  # another count in brackets: 4 (3 of 5 reasons)
        after = match.end()
        if named.get("open") and (closing := _AFTER_MAXIMUM.match(reply, after)):
            after = closing.end()
        count = match["count"].lower()
        return float(_COUNTS.get(count, count)), after
    return None, end


def _other_kind(reply: str, end: int) -> str:
    """The problem of a number that is part of a percentage or of a word ("4th"); empty if it is not."""
    if _PERCENT.match(reply, end):
        return "the reply states no score, but a percentage"
    return "the reply states no score, but text that begins with a number" if _UNFINISHED.match(reply, end) else ""


def _another(reply: str, start: int, end: int, value: float) -> str:
    """The problem of a number that is directly followed by another one; empty if it is not."""
    for pattern in _ANOTHER:
        if match := pattern.match(reply, end):
            is_range = match["between"] and not _IS_CORRECTION.search(match["between"])
            kind = "the reply states no score, but a range" if is_range else "the reply contradicts itself"
            return f"{kind}: {_shown(reply[start : match.end()])}"
    match = _IN_BRACKETS.match(reply, end)
    if match and float(match["number"]) != value:
        return f"the reply contradicts itself: {_shown(match[0])}"
    return ""


def _shown(text: str) -> str:
    return " ".join(text[:_SHOWN].split())
