"""Token counts are used only if the request can have them; otherwise the estimate is booked."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tutelage.services.budget import Budget
from tutelage.services.caller import Caller
from tutelage.services.ledger import Ledger, default_path
from tutelage.services.prices import Price
from tutelage.services.requests import Endpoint, Limits, Reply, Request
from tutelage.services.usage import token_count, with_plausible_counts

REQUEST = Request(0, {"text": "word " * 100}, max_output_tokens=50)
IMPOSSIBLE: list[Any] = [
    math.nan, math.inf, -math.inf, -1, -0.5, 2.5, "7", [7], {"tokens": 7}, True, False, None, 10**30, 1e308, b"7", 0,
    100_000,
]  # fmt: skip


@pytest.mark.parametrize("count", IMPOSSIBLE)
def test_a_count_that_the_request_cannot_have_is_unknown(count: Any) -> None:
    reply = with_plausible_counts(Reply("text", input_tokens=count, output_tokens=count), REQUEST)
    assert (reply.input_tokens, reply.output_tokens) == (None, None)


def test_possible_counts_are_kept() -> None:
    for input_tokens, output_tokens in ((1, 1), (130, 50), (500, 51), (200.0, 3.0)):
        reply = with_plausible_counts(Reply("text", input_tokens=input_tokens, output_tokens=output_tokens), REQUEST)  # type: ignore[arg-type]
        assert (reply.input_tokens, reply.output_tokens) == (input_tokens, output_tokens)
    assert with_plausible_counts(Reply("", input_tokens=9, output_tokens=0), REQUEST).output_tokens == 0


def test_a_count_has_bounds() -> None:
    assert [token_count(value, 2, 4) for value in range(1, 6)] == [None, 2, 3, 4, None]


@pytest.mark.parametrize("count", IMPOSSIBLE)
def test_the_estimate_is_booked_for_an_impossible_count_and_counts_in_a_later_run(count: Any) -> None:
    priced = Endpoint("shouty", "https://api.shouty.example", "m", price=Price(1e6, 1e6))
    estimate = REQUEST.input_tokens + REQUEST.max_output_tokens
    caller = Caller(Ledger(), Budget(1e6), run="a")
    (answer,) = caller.map([REQUEST], lambda body, timeout: Reply("x", input_tokens=count, output_tokens=count), priced)
    assert answer.cost == estimate
    assert caller.budget is not None
    assert caller.budget.spent == estimate
    caller.ledger.close()
    (row,) = Ledger(default_path()).export()
    assert (row["cost"], row["input_tokens"], row["output_tokens"]) == (estimate, None, None)


def test_a_text_of_other_scripts_is_not_underestimated() -> None:
    assert Request(0, {"t": "\u6771\u4eac" * 500}).input_tokens >= 1000


def test_an_impossible_count_does_not_block_the_pace_of_tokens() -> None:
    limits = Limits(in_flight=1, tokens_per_minute=1e9)
    endpoint = Endpoint("shouty", "https://api.shouty.example", "m")
    requests = (Request(number, {"text": str(number)}) for number in range(3))
    answers = Caller().map(
        requests, lambda body, timeout: Reply("x", input_tokens=10**30, output_tokens=1), endpoint, limits
    )
    assert len(list(answers)) == 3
