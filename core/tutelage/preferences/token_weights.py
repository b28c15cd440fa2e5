"""Verdicts weighted by token probabilities: the alternatives at the token that states a verdict, and their weight.

Servers return a token as text (" m"), or as the vocabulary writes it: with the blank mark of sentencepiece (U+2581) or
of byte-level vocabularies (U+0120). All of these are spellings of the token "m".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tutelage.preferences.thinking import split_thinking
from tutelage.preferences.verdict_parsing import BETTER, VERDICT_VALUES, token_text

Alternatives = Sequence[tuple[str, float]]
"""Possible tokens at one position of a reply, each with its log-probability (natural logarithm)."""

_END_TOKEN = re.compile(r"</s>|<eos>|<end_of_turn>|<\|[a-z_]+\|>")
"""Tokens that end a reply; some servers return them with the others."""
_ROUNDING = 0.01
"""Largest log-probability above 0 that is taken for a rounding error."""
_LEAST = -800.0
"""Log-probabilities below this one have probability 0 in double precision."""


def verdict_alternatives(tokens: Iterable[tuple[str, Alternatives]]) -> list[list[Any]]:
    """The alternatives at the position of a reply that states its verdict, as plain JSON values.

    ``tokens`` are the reply's tokens, each with its alternatives. Thinking blocks and blank tokens are skipped. In a
    reply of one token it is that token, otherwise the one after "better:". Returns an empty list if the reply has no
    such position. Only this position is kept: all alternatives of a reply would be a hundred times as long as its text.
    """
    positions, reply = [], ""
    for token, alternatives in tokens:
        positions.append((len(reply), token_text(token), alternatives))
        reply += positions[-1][1]
    answer_start = split_thinking(reply).answer_start
    if verdict := BETTER.search(reply, answer_start):
        at = verdict.start(1)
        stating = [found for start, text, found in positions if start <= at < start + len(text) and _verdict_word(text)]
    else:
        stating = [found for start, text, found in positions if start >= answer_start and _has_text(text)]
    if len(stating) != 1:
        return []
    return [[token, log_probability] for token, log_probability in stating[0]]


def weighted_preference(alternatives: Iterable[Sequence[Any]]) -> float | None:
    """Probability that the first answer is the better one, from the alternatives of the token that states the verdict.

    The probabilities are normalised over first, second and tie, and a tie counts half, as in G-Eval's weighting of
    scores by token probabilities (Liu et al., 2023, section 2). None if no token names any of the three.
    """
    weights = dict.fromkeys(VERDICT_VALUES, 0.0)
    for token, log_probability in alternatives:
        if (word := _verdict_word(token_text(token))) is not None:
            weights[word] += _probability(log_probability)
    return _mean(weights, VERDICT_VALUES)


def token_preference(alternatives: Iterable[Sequence[Any]], tokens: tuple[str, str]) -> float | None:
    """Probability of the first of two tokens against the second, from the alternatives of a reply of one token.

    The probabilities of all spellings of a token are added. A token that is not among the alternatives has probability
    0; None if neither is. Otherwise this is the weighting of AlpacaEval 2.0 (alpaca_eval 0.6.6,
    ``completion_parsers.logprob_parser``), which knows only one spelling.
    """
    weights = dict.fromkeys(tokens, 0.0)
    for token, log_probability in alternatives:
        spelled = token if token in weights else token_text(token).strip()
        if spelled in weights:
            weights[spelled] += _probability(log_probability)
    return _mean(weights, {tokens[0]: 1.0, tokens[1]: 0.0})


def _probability(log_probability: object) -> float:
    """The probability of a token; 0 if the service's value is not a log-probability."""
    if isinstance(log_probability, bool) or not isinstance(log_probability, int | float):
        return 0.0
    if not log_probability <= _ROUNDING:  # NaN is not
        return 0.0
    return 0.0 if log_probability < _LEAST else math.exp(min(log_probability, 0.0))


def _mean(weights: Mapping[str, float], values: Mapping[str, float]) -> float | None:
    """The mean of the values by weight; None if every weight is 0."""
    total = sum(weights.values())
    return sum(values[word] * weight for word, weight in weights.items()) / total if total > 0 else None


def _has_text(token: str) -> bool:
    """Whether a token is neither blank nor the end of the reply."""
    return bool(token.strip()) and not _END_TOKEN.fullmatch(token)


def _verdict_word(token: str) -> str | None:
    """first, second or tie if a token begins one of these words, which differ in their first letter."""
    letters = token.strip(" \t\r\n*_`\"'").lower()
    return next((word for word in VERDICT_VALUES if letters and word.startswith(letters)), None)
