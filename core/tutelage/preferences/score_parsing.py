"""Parsing of the score that a judge's reply states.

A score has a label ("score: 4") or is the value of "score" in a JSON object. In a reply without either, it is a
fraction that rates the answer ("I give it 4 out of 5."). ``stated_numbers`` reads the number. A statement does not
count if it is denied ("I would not give score: 5"), if it is a question, or if it names the maximum ("Max score: 5").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from tutelage.preferences.stated_numbers import (
    ANY_NUMBER,
    BLANKS,
    FROM_TO,
    NUMBER,
    UNIT,
    StatedNumber,
    read_number,
)
from tutelage.preferences.statements import MARKUP, is_denied, limit_named, rates_answer, reason_beside
from tutelage.preferences.thinking import split_thinking
from tutelage.records import Rubric

_LABEL = re.compile(
    rf"(?<![^\W_])score{MARKUP}"
    rf"(?:[(\[\uff08]{BLANKS}(?:/|(?:(?:out|of|max|maximum|on|in|from|an?|the|scale|range|between|is)[ \t.:]+){{0,6}})"
    rf"(?:{ANY_NUMBER}{FROM_TO})?(?P<maximum>{ANY_NUMBER}){UNIT}{BLANKS}[)\]\uff09]{MARKUP})?[:=\uff1a]{MARKUP}",
    re.IGNORECASE,
)
_FRACTION = re.compile(rf"(?<![\w.,/+-])[+-]?{NUMBER}{UNIT}{BLANKS}(?:[/\uff0f]|out[ \t]+of\b)", re.IGNORECASE)
_CLAUSE_END = re.compile(rf"{UNIT}[*_`]*+(?:[.!?;,)\]\"<](?![0-9])|{BLANKS}\n|\s*+\Z)", re.IGNORECASE)

_NO_SCORE = "the reply states no score"
_SCALE_LENGTH = 40
"""Maximum number of characters of a scale in JSON, such as "0 to 10"."""
_NAMES_MAXIMUM = re.compile(r"(?:max|maximum|highest|out[ _]?of|scale|range)(?:[ _](?:score|points?))?", re.IGNORECASE)


@frozen
class ParsedScore:
    """The result of parsing a judge's reply."""

    score: float | None
    """A number within the rubric's scale, or None."""
    reason: str = ""
    """The reply without the score."""
    detail: str = ""
    """The reason why there is no score, if there is none."""


@frozen
class _Statement:
    """A score that a reply states."""

    number: StatedNumber
    start: int
    """Position in the reply at which the statement starts; it ends with the number."""


def parse_score(reply: str, rubric: Rubric) -> ParsedScore:
    """Parse the score that a judge's reply states after its thinking blocks.

    The parser accepts "score: 4" in any case, spacing or markup ("**Score** = 4", "score: 4/5"), a sum by its result
    ("score: 1 + 1 + 1 = 3"), and a JSON object with the key "score". Only if the reply has none of these, it accepts
    "4 out of 5" or "4/5" at the end of a clause that rates the answer. The score is None, and ``detail`` has the
    reason, for a number outside the rubric's scale, a number with another maximum (8/10), several numbers (3-4; 4, 5),
    a percentage, a wrong sum, two different scores, or a reply that ends within a thinking block.
    """
    split = split_thinking(reply)
    if not split.answer.strip():
        return ParsedScore(None, "", split.problem or "the reply is empty")
    return _parse(split.answer, rubric)


def _parse(reply: str, rubric: Rubric) -> ParsedScore:
    """The score of a reply with text and without thinking blocks."""
    if (found := _json_object(reply)) is not None:
        return _from_json(found, rubric)
    statements = list(_labelled(reply, rubric)) or list(_fractions(reply))
    plain = [statement for statement in statements if not statement.number.problem]
    if not plain:
        problems = [statement.number.problem for statement in statements]
        return ParsedScore(None, reply.strip(), problems[0] if problems else _NO_SCORE)
    reason = reason_beside(reply, plain[0].start, plain[0].number.end)
    return _agreed([statement.number for statement in plain], reason, rubric)


def _agreed(numbers: Sequence[StatedNumber], reason: str, rubric: Rubric) -> ParsedScore:
    """The score that all of these numbers state, or why there is none."""
    if problems := [problem for number in numbers if (problem := _problem(number, rubric))]:
        return ParsedScore(None, reason, problems[0])
    scores = sorted({number.value for number in numbers})
    if len(scores) > 1:
        return ParsedScore(None, reason, f"the reply contradicts itself: {', '.join(f'{s:g}' for s in scores)}")
    return ParsedScore(scores[0], reason)


def _problem(number: StatedNumber, rubric: Rubric) -> str:
    """The reason why a stated number is not a valid score on this rubric; empty if it is."""
    if number.problem:
        return number.problem
    if number.maximum is not None and number.maximum != rubric.highest:
        return f"the reply scores on a scale of {number.maximum:g}, the rubric's highest is {rubric.highest:g}"
    if not rubric.lowest <= number.value <= rubric.highest:
        return f"{number.text} is not between {rubric.lowest:g} and {rubric.highest:g}"
    return ""


def _labelled(reply: str, rubric: Rubric) -> Iterator[_Statement]:
    """The statements with the label "score"."""
    for label in _LABEL.finditer(reply):
        number = read_number(reply, label.end())
        if number is None or is_denied(reply, label.start(), number.end):
            continue
        if number.maximum is None and label["maximum"] is not None:
            number = evolve(number, maximum=float(label["maximum"]))
        match limit_named(reply, label.start()):
            case "lowest":
                continue
            case "highest" if number.value == rubric.highest:
                continue
            case "highest":
                number = evolve(number, maximum=number.value)
        yield _Statement(number, label.start())


def _fractions(reply: str) -> Iterator[_Statement]:
    """The fractions that rate the answer."""
    for match in _FRACTION.finditer(reply):
        number = read_number(reply, match.start()) if rates_answer(reply, match.start()) else None
        if number is None or number.maximum is None or is_denied(reply, match.start(), number.end):
            continue
        if number.problem or _CLAUSE_END.match(reply, number.end):
            yield _Statement(number, match.start())


@frozen
class _JsonReply:
    """A reply that is, or contains, one JSON object with a score."""

    values: Mapping[str, Any]
    around: str
    """The text before and after the object."""


def _json_object(reply: str) -> _JsonReply | None:
    """The JSON object with the key "score" between the first and the last brace of a reply; None if there is none."""
    start, end = reply.find("{"), reply.rfind("}") + 1
    if start < 0 or end <= start:
        return None
    try:
        found = json.loads(reply[start:end], strict=False, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return _JsonReply(found, f"{reply[:start]}\n{reply[end:]}") if "score" in found else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with lower-case keys. Raises ``ValueError`` if a key occurs twice."""
    values = {key.strip().lower(): value for key, value in pairs}
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _from_json(found: _JsonReply, rubric: Rubric) -> ParsedScore:
    """The score of a JSON object; the reason is its text "reason", or its first text."""
    texts = {key: value.strip() for key, value in found.values.items() if isinstance(value, str) and key != "score"}
    reason = texts.get("reason") or next(iter(texts.values()), "")
    score = found.values["score"]
    number = None
    if isinstance(score, str):
        number = read_number(score.strip(), 0)
    elif isinstance(score, int | float) and not isinstance(score, bool):
        number = StatedNumber(f"{score:g}", float(score), 0)
    if number is None:
        return ParsedScore(None, reason, _NO_SCORE)
    maxima = [value for key, value in found.values.items() if _NAMES_MAXIMUM.fullmatch(key)]
    digits = re.findall(ANY_NUMBER, str(maxima[0])[:_SCALE_LENGTH]) if maxima else []
    if digits:
        number = evolve(number, maximum=float(digits[-1]))
    others = [statement.number for statement in _labelled(found.around, rubric) if not statement.number.problem]
    return _agreed([number, *others], reason, rubric)
