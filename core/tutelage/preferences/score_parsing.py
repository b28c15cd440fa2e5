"""Parsing of the score that a judge's reply states."""

from __future__ import annotations

import re

from attrs import frozen

from tutelage.preferences.statements import MARKUP, reason_beside
from tutelage.records import Rubric

_NUMBER = r"([+-]?[0-9]++(?:\.[0-9]++)?)"
_NOTHING_NUMERIC_AFTER = r"(?![\w%]|[.,][0-9]|[ \t]*(?:[-\u2013]|to\b|or\b)[ \t]*[0-9])"
_SCALE = r"(?:[ \t]*(?:/|out[ \t]+of)[ \t]*([0-9]+(?:\.[0-9]+)?)(?!\w))?"
_LABELLED = re.compile(
    rf"(?<![^\W_])score{MARKUP}[:=\uff1a]{MARKUP}{_NUMBER}{_NOTHING_NUMERIC_AFTER}{_SCALE}[*_`]*", re.IGNORECASE
)
_FRACTION = re.compile(
    rf"(?<![\w./+-]){_NUMBER}[ \t]*(?:/|out[ \t]+of)[ \t]*([0-9]+(?:\.[0-9]+)?)[*_`]*"
    r"(?=(?:[ \t]+(?:points?|stars?))?[*_`]*(?:[.!?;,)\]\"<](?![0-9])|\s*$|[ \t]*\n))",
    re.IGNORECASE,
)


@frozen
class ParsedScore:
    """The result of parsing a judge's reply."""

    score: float | None
    """A number within the rubric's scale, or None."""
    reason: str = ""
    """The reply without the score."""
    detail: str = ""
    """The reason why there is no score, if there is none."""


def parse_score(reply: str, rubric: Rubric) -> ParsedScore:
    """Parse the score that a judge's reply states.

    The parser accepts "score: 4" in any case, spacing or markup ("**Score** = 4", "score: 4/5"). Only if the reply has
    no such label, it accepts "4 out of 5" or "4/5" at the end of a clause. The score is None, and ``detail`` has the
    reason, for a number outside the rubric's scale, a number on another scale (8/10), a range (3-4), or two different
    scores.
    """
    matches = list(_LABELLED.finditer(reply)) or list(_FRACTION.finditer(reply))
    if not matches:
        return ParsedScore(None, reply.strip(), "the reply states no score" if reply.strip() else "the reply is empty")
    reason = reason_beside(reply, *matches[0].span())
    problems = [problem for match in matches if (problem := _problem(match, rubric))]
    if problems:
        return ParsedScore(None, reason, problems[0])
    scores = sorted({float(match[1]) for match in matches})
    if len(scores) > 1:
        return ParsedScore(None, reason, f"the reply contradicts itself: {', '.join(f'{s:g}' for s in scores)}")
    return ParsedScore(scores[0], reason)


def _problem(match: re.Match[str], rubric: Rubric) -> str:
    """The reason why a stated number is not a valid score on this rubric; empty if it is."""
    scale = match[2]
    if scale is not None and float(scale) != rubric.highest:
        return f"the reply scores on a scale of {scale}, the rubric's highest is {rubric.highest:g}"
    if not rubric.lowest <= float(match[1]) <= rubric.highest:
        return f"{match[1]} is not between {rubric.lowest:g} and {rubric.highest:g}"
    return ""
