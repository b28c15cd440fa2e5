"""Parsing of the verdict that an evaluator's reply states about two answers."""

from __future__ import annotations

import re

from attrs import frozen

from tutelage.preferences.judging import PAIRWISE_RUBRIC
from tutelage.preferences.statements import MARKUP, reason_beside
from tutelage.preferences.thinking import split_thinking
from tutelage.records import Rubric

BETTER = re.compile(rf"(?<![^\W_])better{MARKUP}[:=\uff1a]{MARKUP}(first|second|tie)(?!\w)[*_`]*", re.IGNORECASE)
"""A verdict with its label; the group is the verdict."""
VERDICT_VALUES = {"first": 1.0, "second": 0.0, "tie": 0.5}
"""The preference that each verdict stands for: the probability that the first answer is the better one."""


_MARKS = str.maketrans({"\u2581": " ", "\u0120": " ", "\u010a": "\n", "\u010d": "\r", "\u0109": "\t"})
"""The blanks of sentencepiece (the first) and of byte-level vocabularies."""


@frozen
class ParsedPreference:
    """The result of parsing an evaluator's reply to a comparison."""

    preference: float | None
    """1 if the first answer is better, 0 if the second is, 0.5 if neither is; None if the reply has no verdict."""
    reason: str = ""
    """The reply without the verdict."""
    detail: str = ""
    """The reason why there is no preference, if there is none."""


def parse_preference(reply: str, rubric: Rubric = PAIRWISE_RUBRIC) -> ParsedPreference:
    """Parse "better: first", "better: second" or "better: tie" from an evaluator's reply, after its thinking blocks.

    Two different verdicts give None. If the rubric has ``tokens``, the reply must be one of the two tokens; blanks and
    the blank marks of a vocabulary beside it are ignored.
    """
    split = split_thinking(reply)
    if split.problem:
        return ParsedPreference(None, "", split.problem)
    return _parse(split.answer, rubric)


def token_text(token: str) -> str:
    """The text of a token: without the marks with which sentencepiece and byte-level vocabularies write blanks."""
    return token.replace("<0x0A>", "\n").translate(_MARKS)


def _parse(reply: str, rubric: Rubric) -> ParsedPreference:
    """The verdict of a reply without thinking blocks."""
    if rubric.tokens:
        return _parse_token(token_text(reply).strip(), rubric.tokens)
    matches = list(BETTER.finditer(reply))
    if not matches:
        return ParsedPreference(None, reply.strip(), "the reply names neither answer")
    named = sorted({match[1].lower() for match in matches})
    if len(named) > 1:
        return ParsedPreference(
            None, reason_beside(reply, *matches[0].span()), f"the reply contradicts itself: {', '.join(named)}"
        )
    return ParsedPreference(VERDICT_VALUES[named[0]], reason_beside(reply, *matches[0].span()))


def _parse_token(reply: str, tokens: tuple[str, str]) -> ParsedPreference:
    if reply not in tokens:
        return ParsedPreference(None, reply, f"the reply is neither {tokens[0]!r} nor {tokens[1]!r}")
    return ParsedPreference(1.0 if reply == tokens[0] else 0.0)
