"""An error of a service is retried, fails one item, refuses one prompt, or stops the step with what to change."""

from __future__ import annotations

import re

import pytest

from tutelage.services.problems import Permanent, Refused, Transient, Unusable
from tutelage.services.status_errors import Advice, ServiceError, problem_of_error

ADVICE = Advice("shouty", "loud-1", "SHOUTY_KEY", {"top_p": "set send_sampling: false", "logprobs": "set it to false"})


def error(status: int | None, message: str = "", *codes: str, parameter: str = "") -> ServiceError:
    return ServiceError(status, message, frozenset(codes), parameter)


STOPS = [
    (error(402, "Insufficient Balance"), "out of credit: Insufficient Balance; add credit"),
    (error(429, "You exceeded your current quota", "insufficient_quota"), "out of credit: You exceeded"),
    (error(403, "Billing is off", "billing_not_active"), "out of credit"),
    (error(429, "Quota exceeded", "GenerateRequestsPerDayPerProject-FreeTier"), "quota of the day is used up"),
    (error(401, "no"), "rejects the key in SHOUTY_KEY, at least for model 'loud-1': no; renew the key"),
    (error(403, "Requests to this API method are blocked.", "API_KEY_SERVICE_BLOCKED"), "rejects the key"),
    (error(403, "Your account was flagged for violating our content policy"), "rejects the key"),
    (error(400, "API key not valid. Please pass a valid API key."), "rejects the key"),
    (error(400, "API key expired. Please renew the API key."), "rejects the key"),
    (error(400, "Incorrect API key provided"), "rejects the key"),
    (error(407, "Proxy Authentication Required"), "rejects the key"),
    (error(404, "no such model"), "has no model 'loud-1' .perhaps removed.*--evaluator shouty:MODEL"),
    (error(400, "unknown", "model_not_found"), "has no model 'loud-1'"),
    (error(410, ""), "no longer serves model 'loud-1': status 410"),
    (error(400, "The model `loud-1` has been decommissioned."), "no longer serves model 'loud-1'"),
    (error(400, "This model version was retired"), "no longer serves"),
    (error(400, "no", "model_deprecated"), "no longer serves"),
    (error(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), "not offered at this locat"),
    (error(403, "Country, region, or territory not supported"), "not offered at this location: Country, region"),
    (error(451, "legal"), "not offered at this location"),
    (error(400, "no", parameter="top_p"), "does not accept top_p: no; set send_sampling: false"),
    (error(400, "Unsupported parameter: 'top_k'", "unsupported_parameter", parameter="top_k"), "does not accept top_k"),
    (error(400, "Unrecognized request argument supplied: seed"), "does not accept seed: .*choose another model"),
    (error(400, "Logprobs is not enabled for models/loud-1"), "does not accept Logprobs: .*; set it to false"),
    (error(400, "Unknown name \"topK\" at 'generation_config': Cannot find field."), "does not accept topK"),
    (error(422, "'top_p' is not permitted"), "set send_sampling: false"),
    (error(400, "Developer instruction is not enabled for models/loud-1"), "not support this kind of request"),
    (error(400, "Billing must be enabled", "FAILED_PRECONDITION"), "check base_url"),
    (error(405, "Method Not Allowed"), "check base_url"),
    (error(501, "Not Implemented"), "check base_url"),
]


@pytest.mark.parametrize(("sent", "message"), STOPS, ids=lambda value: str(value)[:60])
def test_an_error_of_every_request_stops_the_step(sent: ServiceError, message: str) -> None:
    problem = problem_of_error(sent, ADVICE)
    assert isinstance(problem, Unusable)
    assert re.search(message, str(problem))


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 529, None])
def test_a_failure_of_the_moment_is_tried_again(status: int | None) -> None:
    problem = problem_of_error(ServiceError(status, "the model is no longer available", retry_after=3.0), ADVICE)
    assert isinstance(problem, Transient)
    assert (problem.retry_after, problem.too_fast) == (3.0, False)


def test_a_rate_limit_is_tried_again_more_slowly() -> None:
    problem = problem_of_error(error(429, "Rate limit reached for your prompts. Safety first."), ADVICE)
    assert isinstance(problem, Transient)
    assert problem.too_fast


@pytest.mark.parametrize(
    "sent",
    [
        error(400, "no", "content_filter"),
        error(400, "no", "ResponsibleAIPolicyViolation"),
        error(403, "loud-1 requires moderation. Your input was flagged."),
        error(403, "no", "flagged_input"),
        error(400, "The prompt was blocked by safety rules"),
        error(422, "Your request was rejected by our safety system"),
    ],
    ids=str,
)
def test_a_rejected_prompt_is_a_refusal(sent: ServiceError) -> None:
    assert isinstance(problem_of_error(sent, ADVICE), Refused)


@pytest.mark.parametrize(
    "sent",
    [
        error(400, "maximum context length is 4096 tokens", "context_length_exceeded", parameter="messages"),
        error(400, "'max_tokens' is too large: 256. This model's maximum context length is 4096.", parameter="top_p"),
        error(413, "Payload Too Large"),
        error(400, "The input is malformed"),
        error(422, "messages: field required"),
    ],
    ids=str,
)
def test_an_error_of_one_request_fails_this_item(sent: ServiceError) -> None:
    assert isinstance(problem_of_error(sent, ADVICE), Permanent)
