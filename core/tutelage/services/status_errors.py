"""What an HTTP error of a chat service means: retry, this prompt only, or no request can succeed.

Services use the same status for different causes: 400 is an expired key, a retired model, an unsupported parameter or a
prompt that is too long. The codes and the message decide. The rules are those of OpenAI's and Google's references and
of errors reported for compatible servers (OpenRouter, Azure, DeepSeek, Groq, vLLM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unusable


@frozen
class ServiceError:
    """An error that a service sent, in the terms that the protocols share."""

    status: int | None
    """HTTP status, or the status that the body states; None if there is none."""
    message: str
    codes: frozenset[str] = frozenset()
    """Codes, reasons and types in the body."""
    parameter: str = ""
    """The parameter of the request that is rejected; "" if the body names none."""
    retry_after: float | None = None
    """Seconds that the service asks to wait."""


@frozen
class Advice:
    """What the user of one plugin can change."""

    plugin: str
    model: str
    key_variable: str
    parameters: Mapping[str, str] = field(factory=dict)
    """The setting to change for each parameter that a model may reject. These parameters are equal in all requests."""


_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
_WRONG_KEY = {"invalid_api_key", "API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "account_deactivated"}
_FILTERED = {
    "content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "moderation_blocked",
    "data_inspection_failed", "flagged_input",
}  # fmt: skip
_NO_MODEL = {"model_not_found", "model_not_available"}
_RETIRED_MODEL = {"model_decommissioned", "model_deprecated", "model_retired"}
_TOO_LONG = {"context_length_exceeded", "string_above_max_length"}

_KEY = re.compile(
    r"api[ _-]?key[^.]*\b(not valid|invalid|expired|incorrect|revoked|missing|not found)|"
    r"\b(invalid|incorrect|expired|revoked|missing|no) api[ _-]?key",
    re.I,
)
_RETIRED = re.compile(
    r"\bmodel\b.*\b(decommissioned|retired|discontinued|deprecated|sunset|no longer (supported|available|served)|"
    r"shut ?down|end[- ]of[- ]life)",
    re.I | re.S,
)
_LOCATION = re.compile(
    r"\b(location|country|region|territory)\b.*\b(not (supported|available|allowed)|unsupported|restricted)|"
    r"unsupported[_ ](country|region|location)",
    re.I | re.S,
)
_LENGTH = re.compile(r"context (length|window)|maximum .{0,40}\btokens|too many tokens|prompt is too long", re.I)
_PROMPT = re.compile(r"\b(prompt|input|content|message|request)s?\b", re.I)
_POLICY = re.compile(
    r"\bflagged\b|\bmoderation\b|\bsafety\b|content[ _-](management )?(policy|filter)|responsible ?ai|harmful|"
    r"\b(prompt|input|content) (was|is|has been) (blocked|rejected|filtered)",
    re.I,
)
_ACCOUNT = re.compile(r"\b(account|organi[sz]ation|project|api[ _-]?key)\b", re.I)
_UNSUPPORTED = (
    r"unsupported (?:parameter|value): *['\"`](?P<a>[\w.]+)",
    r"unrecognized (?:request )?argument(?: supplied)?: *['\"`]?(?P<b>[\w.]+)",
    r"unknown (?:name|field|parameter):? *['\"`](?P<c>[\w.]+)",
    r"['\"`](?P<d>[\w.]+)['\"`] (?:is|are) not (?:supported|enabled|permitted|allowed)",
    r"\b(?P<e>(?:response_?)?(?:top_)?logprobs|temperature|top_p|seed|max_tokens|max_completion_tokens)\b"
    r"[^.]*\bnot (?:be )?(?:supported|enabled|permitted|allowed)",
)
_PARAMETER = re.compile("|".join(_UNSUPPORTED), re.I)
_FEATURE = re.compile(
    r"\b(instruction|feature|modality|mode)\b[^.]*\bis not (enabled|supported)\b.*\bmodel", re.I | re.S
)


def problem_of_error(error: ServiceError, advice: Advice) -> CallError:
    """Return the exception for an error of the service. An error that no retry mends is ``Unusable``."""
    status, message = error.status, error.message or f"status {error.status}"
    stops = _no_request_can_succeed(error, advice)
    if stops:
        return Unusable(stops)
    if status == 429:
        return Transient(message, error.retry_after, too_fast=True)
    if status is None or status in (408, 409, 425) or status >= 500:
        return Transient(message, error.retry_after)
    if _concerns_prompt(error):
        return Refused(message)
    return Permanent(message)


def _no_request_can_succeed(error: ServiceError, advice: Advice) -> str:
    """The message if every request of the step would fail in the same way; otherwise ""."""
    status, message = error.status, error.message.rstrip(" .") or f"status {error.status}"
    if status == 402 or error.codes & _NO_CREDIT:
        return f"the account is out of credit: {message}; add credit, then the same command continues"
    if "PerDay" in "".join(error.codes):
        return f"the quota of the day is used up: {message}; the same command continues tomorrow"
    if status in (408, 409, 425, 429) or _concerns_prompt(error) or _is_too_long(error):
        return ""
    if status == 451 or _matches(_LOCATION, error):
        return f"the service is not offered at this location: {message}; set base_url to one that is"
    if status in (401, 403, 407) or error.codes & _WRONG_KEY or _matches(_KEY, error):
        return (
            f"the service rejects the key in {advice.key_variable}, at least for model {advice.model!r}: {message}; "
            "renew the key, or set key_variable to the variable of another one"
        )
    if parameter := _unsupported_parameter(error, advice):
        remedy = advice.parameters.get(parameter.lower(), "choose another model, or remove it from the settings")
        return f"model {advice.model!r} does not accept {parameter}: {message}; {remedy}"
    if status == 404 or error.codes & _NO_MODEL:
        return (
            f"the service has no model {advice.model!r} (perhaps removed), or base_url is wrong: {message}; "
            f"choose another model in the recipe or with --judge, --teacher or --evaluator {advice.plugin}:MODEL"
        )
    if status == 410 or error.codes & _RETIRED_MODEL or _matches(_RETIRED, error):
        return (
            f"the service no longer serves model {advice.model!r}: {message}; "
            f"choose another model in the recipe or with --judge, --teacher or --evaluator {advice.plugin}:MODEL"
        )
    if _matches(_FEATURE, error):
        return f"model {advice.model!r} does not support this kind of request: {message}; choose another model"
    if status in (405, 501) or "FAILED_PRECONDITION" in error.codes:
        return f"the service does not offer this to the account or at this address: {message}; check base_url"
    return ""


def _concerns_prompt(error: ServiceError) -> bool:
    """Whether the content of one prompt was rejected; a 403 can mean this, too (OpenRouter)."""
    if error.codes & _FILTERED:
        return True
    text = error.message
    is_policy = _PROMPT.search(text) and _POLICY.search(text) and not _ACCOUNT.search(text)
    return error.status in (400, 403, 422, 451) and bool(is_policy)


def _is_too_long(error: ServiceError) -> bool:
    return error.status == 413 or bool(error.codes & _TOO_LONG) or _matches(_LENGTH, error)


def _unsupported_parameter(error: ServiceError, advice: Advice) -> str:
    """The rejected parameter, if it is the same in every request; otherwise ""."""
    if error.status not in (400, 422):
        return ""
    if error.parameter.lower() in advice.parameters or error.codes & {"unsupported_parameter", "unsupported_value"}:
        return error.parameter
    found = _PARAMETER.search(error.message)
    name = next(filter(None, found.groups()), "") if found else ""
    return "" if name == advice.model else name


def _matches(pattern: re.Pattern[str], error: ServiceError) -> bool:
    """Whether the message of a client error matches: a server error (5xx) may be repaired."""
    return error.status is not None and 400 <= error.status < 500 and bool(pattern.search(error.message))
