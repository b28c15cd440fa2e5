"""Errors are read from the formats of OpenAI, Azure, OpenRouter, FastAPI and Google, and from plain texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tutelage.services.error_bodies import error_in_reply, error_in_response
from tutelage.services.status_errors import ServiceError


def read(value: Any, status: int = 400, headers: Mapping[str, str] | None = None) -> ServiceError:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return error_in_response(body, status, headers or {})


def test_openais_format() -> None:
    error = {"message": "No.", "type": "invalid_request_error", "param": "top_p", "code": "unsupported_value"}
    found = read({"error": error}, headers={"retry-after": "7"})
    assert (found.status, found.message, found.parameter, found.retry_after) == (400, "No.", "top_p", 7.0)
    assert found.codes == {"invalid_request_error", "unsupported_value"}


def test_azures_and_openrouters_inner_codes() -> None:
    azure = {"message": "Filtered.", "code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
    assert "ResponsibleAIPolicyViolation" in read({"error": azure}).codes
    router = {"message": "Flagged.", "code": 403, "metadata": {"flagged_input": "...", "raw": "details"}}
    assert read({"error": router}, 403) == ServiceError(403, "Flagged.: details", frozenset({"flagged_input"}))


def test_fastapis_format() -> None:
    found = read({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Not permitted"}]}, 422)
    assert (found.message, found.parameter) == ("body.seed: Not permitted", "seed")
    assert found.codes == {"unsupported_parameter"}


def test_googles_format_with_reason_quota_and_wait() -> None:
    details = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"},
    ]
    error = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": details}}
    for value in (error, [error]):
        found = read(value, 429)
        assert found.codes == {"API_KEY_INVALID", "RequestsPerDay", "RESOURCE_EXHAUSTED"}
        assert (found.message, found.retry_after) == ("Quota.", 17.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"error": "no"}, "no"),
        ({"message": "no"}, "no"),
        ({"detail": "no"}, "no"),
        (b"<html>no</html>", "status 400: <html>no</html>"),
        (b"", ""),
        (b"\xff\xfe no", None),
        ([], "status 400: []"),
        ({"error": [1]}, 'status 400: {"error": [1]}'),
        ({"error": {"message": 5, "code": [1], "details": [None, {"violations": "x"}], "metadata": 1}}, ""),
        (b"[" * 100_000, None),
    ],
)
def test_other_texts_are_the_message(value: Any, message: str | None) -> None:
    found = read(value)
    assert found.status == 400
    assert message is None or found.message == message


def test_an_error_with_status_200_has_the_status_of_its_code() -> None:
    assert error_in_reply({"error": {"message": "slow", "code": 429}}, "choices") == ServiceError(429, "slow")
    assert error_in_reply({"error": {"message": "slow", "code": 7}}, "choices") == ServiceError(None, "slow")
    assert error_in_reply({"error": "slow"}, "choices") == ServiceError(None, "slow")
    complete: list[dict[str, Any]] = [{"error": None}, {"error": {}}, {"choices": [1], "error": "a warning"}]
    assert [error_in_reply(value, "choices") for value in complete] == [None] * 3
