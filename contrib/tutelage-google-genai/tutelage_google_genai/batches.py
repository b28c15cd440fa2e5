"""Gemini's batches (Gemini API reference, Batch API) with inlined requests: requests and replies without files.

The SDK sends the requests. Its parser raises an error for a field that it does not know, so the JSON is read here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from tutelage.services.batch_service import BatchLimits, BatchStatus
from tutelage.services.problems import CallError, Transient
from tutelage.services.reply_json import list_at, object_at, text_at
from tutelage.services.requests import Endpoint, Reply
from tutelage.services.status_errors import ServiceError, problem_of_error
from tutelage_google_genai.client import advice, connected, problem_of, reply_in
from tutelage_google_genai.settings import GoogleGenAiSettings

if TYPE_CHECKING:
    from google import genai

_MOST_BYTES = 256 * 2**20
"""Maximum size of a response: it has the replies of a whole batch."""
_WITH_LOG_PROBABILITIES = 500
"""Maximum number of requests in a batch if each reply has log-probabilities, which take about 100 kB."""
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
_STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""HTTP status by code of an error (google.rpc.Code)."""
_QUEUE_FULL = 8
"""RESOURCE_EXHAUSTED, of a batch that was rejected because too many tokens of the account are enqueued."""


@contextmanager
def opened(settings: GoogleGenAiSettings, service: Endpoint) -> Iterator[GeminiBatches | None]:
    """Yield the batch endpoint; None if the setting ``batch`` is false."""
    if not settings.batch:
        yield None
        return
    received: list[bytes] = []
    with connected(settings, service.model, _MOST_BYTES, received) as client:
        yield GeminiBatches(client, received, settings, service.model)


@frozen
class GeminiBatches:
    """The batch endpoint for one model. Implements ``BatchService``."""

    client: genai.Client
    received: list[bytes]
    """The bodies of the responses that the client has received."""
    settings: GoogleGenAiSettings
    model: str
    most_bytes: int = 18_000_000
    """The service accepts 20 MB of inlined requests."""
    _ended: dict[str, dict[str, Any]] = field(factory=dict, init=False)
    """Batches that have ended, by id: the response to a question about the state has all replies."""

    @property
    def limits(self) -> BatchLimits:
        """The user's limits."""
        return self.settings.batch_limits

    @property
    def most_requests(self) -> int:
        """The maximum number of requests in a batch, so that the replies fit in one response."""
        return _WITH_LOG_PROBABILITIES if self.settings.log_probabilities else 20_000

    def submit(self, name: str, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Create a batch and return its id."""
        rows: Any = [
            {"contents": body["contents"], "config": body["config"], "metadata": {"key": key}}
            for key, body in requests.items()
        ]
        batch = self._value(
            lambda: self.client.batches.create(model=self.model, src=rows, config={"display_name": name})
        )
        if not text_at(batch, "name"):
            raise Transient("the service sent a batch without a name")
        return text_at(batch, "name")

    def find(self, name: str) -> str | None:
        """Return the id of the batch with this display name."""
        token = ""
        while True:
            config = {"page_size": 100, "page_token": token}
            page = self._value(lambda config=config: self.client.batches.list(config=config))  # type: ignore[misc]
            for row in list_at(page, "operations"):
                if text_at(object_at(row, "metadata"), "displayName") == name:
                    return text_at(row, "name")
            token = text_at(page, "nextPageToken")
            if not token:
                return None

    def poll(self, id: str) -> BatchStatus | None:
        """Return the state of a batch; None if the service does not know it."""
        from google.genai import errors

        batch = self._value(lambda: self.client.batches.get(name=id), missing=errors.ClientError)
        if batch is None:
            return None
        metadata, error = object_at(batch, "metadata"), object_at(batch, "error")
        state = text_at(metadata, "state").rpartition("_STATE_")[2]
        counts = object_at(metadata, "batchStats")
        if state in _ENDED:
            self._ended[id] = batch
        done = sum(_number(counts.get(f"{kind}RequestCount")) for kind in ("successful", "failed"))
        problem = self._problem(error) if state == "FAILED" else None
        return BatchStatus(state in _ENDED, done, problem, state == "CANCELLED")

    def results(self, id: str) -> Iterator[tuple[str, Reply | CallError]]:
        """Yield the inlined replies and problems."""
        batch = self._ended.pop(id, None) or self._value(lambda: self.client.batches.get(name=id))
        output = object_at(object_at(batch, "metadata"), "output") or object_at(batch, "response")
        for row in list_at(object_at(output, "inlinedResponses"), "inlinedResponses"):
            if key := text_at(object_at(row, "metadata"), "key"):
                yield key, self._result(row)

    def _result(self, row: Mapping[str, Any]) -> Reply | CallError:
        if error := object_at(row, "error"):
            return self._problem(error)
        try:
            return reply_in(object_at(row, "response"), self.settings, self.model)
        except CallError as problem:
            return problem

    def _problem(self, error: Mapping[str, Any]) -> CallError:
        code, message = error.get("code"), text_at(error, "message") or "no reason is given"
        if code == _QUEUE_FULL:
            return Transient(message)
        status = _STATUS.get(code) if isinstance(code, int) else None
        return problem_of_error(ServiceError(status, message), advice(self.settings, self.model))

    def _value(self, call: Callable[[], Any], missing: type[Exception] | tuple[()] = ()) -> Any:
        """The JSON object that the service sends. None if it sends 404 as ``missing``. Raises ``CallError``."""
        from pydantic import ValidationError

        self.received.clear()
        try:
            with suppress(ValidationError):  # of the SDK's parser, after the response was received
                call()
            value = json.loads(self.received.pop())
        except (ValueError, IndexError, RecursionError):
            raise Transient("the service sent no JSON") from None
        except missing as error:
            if getattr(error, "code", None) == 404:
                return None
            raise problem_of(error, self.settings, self.model) from None
        except Exception as error:
            raise problem_of(error, self.settings, self.model) from None
        return value if isinstance(value, dict) else {}


def _number(text: object) -> int:
    """A count, which the protocol sends as text."""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else 0
