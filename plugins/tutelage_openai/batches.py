"""OpenAI's batch endpoint (API reference, Batch): a file of requests, a batch, and files of replies and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from tutelage.services.batch_service import BatchLimits, BatchStatus
from tutelage.services.error_bodies import error_in_response
from tutelage.services.http_client import connection_problem, library_of
from tutelage.services.problems import CallError, Permanent, Transient, Unreadable
from tutelage.services.reply_json import list_at, object_at, parse_reply, text_at
from tutelage.services.requests import Reply
from tutelage.services.response_guard import lines_of
from tutelage.services.status_errors import ServiceError, problem_of_error
from tutelage_openai.client import advice, problem_of, reply_in
from tutelage_openai.settings import OpenAiSettings

if TYPE_CHECKING:
    import openai

T = TypeVar("T")

_URL = "/v1/chat/completions"
_NAME = "tutelage"
"""Key of the batch's name in its metadata."""
_ENDED = ("completed", "failed", "expired", "cancelled")
_QUEUE_FULL = "token_limit_exceeded"
"""Code of a batch that was rejected because too many tokens of the account are enqueued."""
_KEY = re.compile(rb'"custom_id": ?"([0-9a-f]+)"')


@frozen
class OpenAiBatches:
    """The batch endpoint for one model. Implements ``BatchService``."""

    client: openai.OpenAI
    settings: OpenAiSettings
    model: str
    most_requests: int = 50_000
    most_bytes: int = 190_000_000
    """The service accepts files of 200 MB."""

    @property
    def limits(self) -> BatchLimits:
        """The user's limits."""
        return self.settings.batch_limits

    def submit(self, name: str, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Upload the requests and create a batch. Returns its id."""
        rows = ({"custom_id": key, "method": "POST", "url": _URL, "body": dict(body)} for key, body in requests.items())
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = self._value(
            lambda: self.client.files.with_raw_response.create(file=(f"{name}.jsonl", content), purpose="batch")
        )
        batch = self._value(
            lambda: self.client.batches.with_raw_response.create(
                input_file_id=text_at(file, "id"),
                endpoint=_URL,
                completion_window="24h",
                metadata={_NAME: name},
            )
        )
        if not text_at(batch, "id"):
            raise Transient("the service sent a batch without an id")
        return text_at(batch, "id")

    def find(self, name: str) -> str | None:
        """Return the id of the batch with this name."""
        batches = self._called(lambda: list(self.client.batches.list(limit=100)))
        return next((batch.id for batch in batches if (batch.metadata or {}).get(_NAME) == name), None)

    def poll(self, id: str) -> BatchStatus | None:
        """Return the state of a batch; None if the service does not know it."""
        import openai

        try:
            batch = parse_reply(self.client.batches.with_raw_response.retrieve(id).http_response.content)
        except openai.NotFoundError:
            return None
        except openai.OpenAIError as error:
            raise problem_of(error, self.settings, self.model) from None
        status, counts = text_at(batch, "status"), object_at(batch, "request_counts")
        done = sum(number for key in ("completed", "failed") if isinstance(number := counts.get(key), int))
        problem = self._rejection(batch) if status == "failed" else None
        return BatchStatus(status in _ENDED, done, problem, status == "cancelled")

    def _rejection(self, batch: Mapping[str, Any]) -> CallError:
        """Why the service did not start a batch: the first error of its validation."""
        errors = list_at(batch.get("errors"), "data") or [{}]
        message, code = text_at(errors[0], "message") or "no reason is given", text_at(errors[0], "code")
        if code == _QUEUE_FULL:
            return Transient(message)
        return problem_of_error(ServiceError(400, message, frozenset({code})), advice(self.settings, self.model))

    def results(self, id: str) -> Iterator[tuple[str, Reply | CallError]]:
        """Yield the replies of the output file and the problems of the error file."""
        batch = self._value(lambda: self.client.batches.with_raw_response.retrieve(id))
        for file in filter(None, (text_at(batch, "output_file_id"), text_at(batch, "error_file_id"))):
            yield from self._called(lambda file=file: list(self._results_in(file)))  # type: ignore[misc]

    def _results_in(self, file: str) -> Iterator[tuple[str, Reply | CallError]]:
        most = self.settings.limits.response_bytes
        with self.client.files.with_streaming_response.content(file) as response:
            for line, is_whole in lines_of(response.iter_bytes(), most):
                if key := _KEY.search(line):
                    try:
                        result: Reply | CallError = self._result(line, is_whole)
                    except CallError as problem:
                        result = problem
                    yield key[1].decode(), result

    def _result(self, line: bytes, is_whole: bool) -> Reply:
        """The reply in a line of a file. Raises the ``CallError`` of a request that was not answered."""
        if not is_whole:
            most = self.settings.limits.response_bytes
            raise Permanent(f"the reply is larger than {most:,} bytes; the setting limits.response_bytes is the limit")
        try:
            value = parse_reply(line)
        except Transient as problem:  # the file is complete, so the reply would be the same again
            raise Unreadable(str(problem)) from None
        response = object_at(value, "response")
        status, body = response.get("status_code"), object_at(response, "body")
        if status == 200:
            return reply_in(body, self.settings, self.model)
        if isinstance(status, int):
            sent = error_in_response(json.dumps(body).encode(), status, {})
            raise problem_of_error(sent, advice(self.settings, self.model))
        error = object_at(value, "error")
        raise Transient(text_at(error, "message") or text_at(error, "code") or "no reply and no error")

    def _value(self, call: Callable[[], Any]) -> dict[str, Any]:
        """The JSON object that the service sends."""
        return parse_reply(self._called(call).http_response.content)

    def _called(self, call: Callable[[], T]) -> T:
        """The result of a call of the SDK. Raises ``CallError``."""
        import openai

        try:
            return call()
        except openai.OpenAIError as error:
            raise problem_of(error, self.settings, self.model) from None
        except library_of(openai.DefaultHttpxClient).HTTPError as error:  # while a file is read
            raise connection_problem(error, f"{type(error).__name__}: {error}") from None
