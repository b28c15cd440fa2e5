"""The reading of the errors that services send: OpenAI's format, Google's, FastAPI's, and plain texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.services.problems import retry_after
from tutelage.services.reply_json import list_at, object_at, text_at
from tutelage.services.status_errors import ServiceError


def error_in_response(body: bytes, status: int, headers: Mapping[str, str]) -> ServiceError:
    """Return the error in the body of a response with an error status."""
    wait = retry_after(headers)
    try:
        value = json.loads(body.decode(json.detect_encoding(body), "replace"))
    except (ValueError, RecursionError):
        value = None
    found = _error_object(value)
    if found is None:
        text = body.decode("utf-8", "replace").strip()
        return ServiceError(status, f"status {status}: {text}" if text else "", retry_after=wait)
    return _service_error(found, status, wait)


def error_in_reply(value: Mapping[str, Any], answers: str) -> ServiceError | None:
    """Return the error in a reply whose status was 200 (OpenRouter); None if it has none.

    ``answers`` is the key of the answers: a reply that has some is no error.
    """
    error = value.get("error")
    if not error or list_at(value, answers):
        return None
    found = error if isinstance(error, Mapping) else {"message": str(error)}
    code = found.get("code")
    return _service_error(found, code if isinstance(code, int) and 400 <= code < 600 else None, None)


def _error_object(value: object) -> Mapping[str, Any] | None:
    """The part of an error body that has the message: ``error``, FastAPI's ``detail``, or the whole body."""
    if isinstance(value, list) and value:
        value = value[0]  # Google sends a list where a stream was expected
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("error"), Mapping):
        return object_at(value, "error")
    if details := list_at(value, "detail"):
        return _from_fastapi(details[0])
    message = next((value[key] for key in ("error", "message", "detail") if isinstance(value.get(key), str)), None)
    return {**value, "message": message} if message else None


def _from_fastapi(detail: object) -> dict[str, Any]:
    """A validation error of FastAPI (vLLM, Mistral): its location ends with the name of the parameter."""
    location = [str(part) for part in list_at(detail, "loc")]
    is_extra = text_at(detail, "type") in ("extra_forbidden", "value_error.extra")
    return {
        "message": f"{'.'.join(location)}: {text_at(detail, 'msg')}",
        "param": location[-1] if location else "",
        "code": "unsupported_parameter" if is_extra else text_at(detail, "type"),
    }


def _service_error(found: Mapping[str, Any], status: int | None, wait: float | None) -> ServiceError:
    metadata = object_at(found, "metadata")
    message = text_at(found, "message")
    if raw := text_at(metadata, "raw"):
        message = f"{message}: {raw}"
    if wait is None:
        wait = _google_wait(found)
    return ServiceError(status, message, frozenset(filter(None, _codes(found))), text_at(found, "param"), wait)


def _codes(found: Mapping[str, Any]) -> Iterator[str]:
    """Codes and types of OpenAI and Azure, the status and the reasons of Google, the key of a flag of OpenRouter."""
    yield from (text_at(found, key) for key in ("code", "type", "status"))
    yield text_at(object_at(found, "innererror"), "code")
    if "flagged_input" in object_at(found, "metadata"):
        yield "flagged_input"
    for detail in list_at(found, "details"):
        yield text_at(detail, "reason")
        yield from (text_at(violation, "quotaId") for violation in list_at(detail, "violations"))


def _google_wait(found: Mapping[str, Any]) -> float | None:
    """Seconds of Google's ``RetryInfo`` (google.rpc.RetryInfo), such as "17.5s"; None if there is none."""
    for detail in list_at(found, "details"):
        if text_at(detail, "@type").endswith("google.rpc.RetryInfo"):
            return retry_after({"retry-after": text_at(detail, "retryDelay").removesuffix("s")})
    return None
