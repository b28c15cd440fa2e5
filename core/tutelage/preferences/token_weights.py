"""Verdicts weighted by token probabilities: the alternatives at the token that states a verdict, and their weight."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tutelage.preferences.verdict_parsing import VERDICT_VALUES

Alternatives = Sequence[tuple[str, float]]
"""Possible tokens at one position of a reply, each with its log-probability (natural logarithm)."""

_BEFORE_VERDICT = re.compile(r"better\W*$", re.IGNORECASE)


def verdict_alternatives(tokens: Iterable[tuple[str, Alternatives]]) -> list[list[Any]]:
    """The alternatives at the position of a reply that states its verdict, as plain JSON values.

    ``tokens`` are the reply's tokens, each with its alternatives. In a reply of one token it is that token, otherwise
    the one after "better:". Returns an empty list if the reply has no such position. Only this position is kept: all
    alternatives of a reply would be a hundred times as long as its text.
    """
    positions = list(tokens)
    if len(positions) == 1:
        return [[word, log_probability] for word, log_probability in positions[0][1]]
    before = ""
    for token, alternatives in positions:
        if _BEFORE_VERDICT.search(before) and _verdict_word(token) is not None:
            return [[word, log_probability] for word, log_probability in alternatives]
        before += token
    return []


def weighted_preference(alternatives: Iterable[Sequence[Any]]) -> float | None:
    """Probability that the first answer is the better one, from the alternatives of the token that states the verdict.

    The probabilities are normalised over first, second and tie, and a tie counts half, as in G-Eval's weighting of
    scores by token probabilities (Liu et al., 2023, section 2). None if no token names any of the three.
    """
    weights = dict.fromkeys(VERDICT_VALUES, 0.0)
    for token, log_probability in alternatives:
        if (word := _verdict_word(token)) is not None:
            weights[word] += math.exp(log_probability)
    return _mean(weights, VERDICT_VALUES)


def token_preference(alternatives: Iterable[Sequence[Any]], tokens: tuple[str, str]) -> float | None:
    """Probability of the first of two tokens against the second, from the alternatives of a reply of one token.

    A token that is not among the alternatives has probability 0; None if neither is. AlpacaEval 2.0 weights its
    verdicts in this way (alpaca_eval 0.6.6, ``completion_parsers.logprob_parser``).
    """
    weights = dict.fromkeys(tokens, 0.0)
    for token, log_probability in alternatives:
        if token in weights:
            weights[token] = math.exp(log_probability)
    return _mean(weights, {tokens[0]: 1.0, tokens[1]: 0.0})


def _mean(weights: Mapping[str, float], values: Mapping[str, float]) -> float | None:
    """The mean of the values by weight; None if every weight is 0."""
    total = sum(weights.values())
    return sum(values[word] * weight for word, weight in weights.items()) / total if total > 0 else None


def _verdict_word(token: str) -> str | None:
    """first, second or tie if a token begins one of these words, which differ in their first letter."""
    letters = token.strip(" \t\r\n*_`\"'").lower()
    return next((word for word in VERDICT_VALUES if letters and word.startswith(letters)), None)
