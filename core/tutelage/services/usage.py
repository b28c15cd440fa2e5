"""The token counts that a service reports, if they can be true. Other counts are unknown.

A service's counts decide what is booked on the budget. A count that is not a number, or that the request cannot have,
is not used: then the estimate of the request is booked, as for a reply without counts.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from tutelage.services.requests import Reply, Request

_ALLOWANCE = 1024
"""Tokens that a service may add to a request or an answer: its chat template, a system prompt, special tokens."""


def with_plausible_counts(reply: Reply, request: Request[Any]) -> Reply:
    """Return the reply with the counts that the request can have; each other count becomes None.

    A text has no more tokens than bytes in UTF-8. A request has at least one token, and so has an answer with text.
    """
    input_tokens = token_count(reply.input_tokens, 1, request.byte_count + _ALLOWANCE)
    output_tokens = token_count(reply.output_tokens, 1 if reply.text else 0, request.max_output_tokens + _ALLOWANCE)
    return evolve(reply, input_tokens=input_tokens, output_tokens=output_tokens)


def token_count(value: object, least: int, most: int) -> int | None:
    """Return ``value`` if it is a whole number from ``least`` to ``most`` (not a boolean or a text), otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not least <= value <= most:  # false for NaN
        return None
    return int(value) if value == int(value) else None
