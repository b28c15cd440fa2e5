"""How the answers of one service are booked: their cost, the rows of the ledger, failures, and the texts of errors."""

from __future__ import annotations

import json
import threading
import traceback
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve

from tutelage.errors import StageError
from tutelage.records import Outcome
from tutelage.services.ledger import Entry
from tutelage.services.redaction import redact_values
from tutelage.services.requests import Answer, Endpoint, Limits, Reply, Request
from tutelage.services.usage import with_plausible_counts

T = TypeVar("T")

STORED = (Outcome.ANSWERED, Outcome.CUT, Outcome.REFUSED, Outcome.UNPARSED)
"""Outcomes that the ledger stores. Failures are not stored, because a later request may succeed."""
_LONGEST_DETAIL = 500
"""Characters of a service's message that are kept. A message may be as long as the largest response."""


class Bookkeeper:
    """Books the answers of one endpoint for one stage of a run. Used by several threads."""

    def __init__(self, endpoint: Endpoint, limits: Limits, run: str, stage: str, price_share: float = 1.0) -> None:
        """``price_share``: the share of the price that each request costs."""
        self._called = endpoint
        self._limits = limits
        self._run = run
        self._stage = stage
        self._price_share = price_share
        self._failures_in_a_row = 0
        self._counting = threading.Lock()

    def max_cost(self, request: Request[Any]) -> float:
        """Return the estimated maximum cost in US dollars; 0 if the price is unknown, which a budget excludes."""
        return self._cost(request.input_tokens, request.max_output_tokens) or 0.0

    def _cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        cost = self._called.cost(input_tokens, output_tokens)
        return None if cost is None else cost * self._price_share

    def entry(self, request: Request[Any], key: str | None, reply: Reply, seconds: float, attempts: int) -> Entry:
        """Return the row for the ledger. Without a key, texts are left out: only the cost of the answer is recorded.

        If the number of tokens is unknown, the estimate is booked as the cost, so that it also counts in a later run.
        """
        cost = self._cost(reply.input_tokens, reply.output_tokens)
        if cost is None:
            cost = self._cost(request.input_tokens, request.max_output_tokens)
        entry = Entry(
            key=key,
            provider=self._called.provider,
            base_url=self._called.base_url,
            model=self._called.model,
            revision=self._called.revision,
            request=encodable(request.text),
            sample=request.sample,
            outcome=reply.outcome,
            text=reply.text,
            detail=reply.detail,
            extra=json.dumps(dict(reply.extra), ensure_ascii=False),
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cost=cost,
            seconds=round(seconds, 3),
            attempts=attempts,
            run=self._run,
            stage=self._stage,
        )
        return entry if key else evolve(entry, request="", text="", extra="{}")

    def note_success(self) -> None:
        """Record that a request was answered."""
        with self._counting:
            self._failures_in_a_row = 0

    def failed(self, request: Request[T], detail: str, attempts: int) -> Answer[T]:
        """Return a failed answer. Raises ``StageError`` after too many in a row: then the service is the cause."""
        with self._counting:
            self._failures_in_a_row += 1
            too_many = self._failures_in_a_row >= self._limits.failures_in_a_row
        if too_many:
            raise self.stage_error(
                f"no answer to {self._limits.failures_in_a_row} requests in a row, the last error is: {detail}; "
                "answers are kept, and the same command continues from here"
            ) from None
        return Answer(request.about, Reply("", Outcome.FAILED, detail), attempts=attempts, cost=0.0)

    def stage_error(self, problem: str) -> StageError:
        """Return the error that ends the step. It names plugin, model and address."""
        called = self._called
        return StageError(
            called.scrub(f"plugin {called.provider!r}, model {called.model!r} at {called.base_url}: {problem}")
        )

    def shown(self, problem: Exception) -> str:
        """Return the message of a problem without the key, shortened."""
        return _shortened(self._called.scrub(str(problem)))

    def cleaned(self, reply: Reply, request: Request[Any]) -> Reply:
        """Return the reply without the key and characters that no file can store, with plausible token counts."""
        secret = self._called.secret
        text, detail, extra = (
            encodable(redact_values(value, secret)) for value in (reply.text, reply.detail, dict(reply.extra))
        )
        cleaned = evolve(reply, text=text, detail=_shortened(detail), extra=extra)
        return with_plausible_counts(cleaned, request)


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_DETAIL else f"{message[:_LONGEST_DETAIL]}..."


def encodable(value: Any) -> Any:
    """Return a plain JSON value with lone surrogates, which UTF-8 cannot encode, as replacement characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list) else value


def stored_reply(entry: Entry) -> Reply:
    """Return the reply in a row of the ledger."""
    return Reply(
        entry.text, entry.outcome, entry.detail, entry.input_tokens, entry.output_tokens, json.loads(entry.extra)
    )


def unexpected(error: Exception) -> str:
    """Return the message of an exception that the plugin does not handle, with its place in the source."""
    frames = traceback.extract_tb(error.__traceback__)
    location = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"the plugin does not handle this error: {type(error).__name__}: {error}{location}"
