"""Google's SDK: how a question is spelled, how a reply is read, and what each of its errors means.

google-generativeai is at its end of life, but works. Its REST transport has no asynchronous calls, and its own retries
cover one status only and ignore the time-out: they are off, and ``tutelage.services`` does that work.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from tutelage.errors import PluginError
from tutelage.preferences.token_weights import verdict_alternatives
from tutelage.records import Outcome
from tutelage.services.chat import VERDICT, Question
from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unusable, retry_after
from tutelage.services.requests import Ask, Reply
from tutelage_gemini.settings import GeminiSettings, endpoint, key_for

INSTALL_HINT = "plugin 'gemini' needs the google-generativeai package: pip install 'tutelage[gemini]'"
_TOP_LOG_PROBABILITIES = 5
"""The most that the service gives (Gemini API reference, GenerationConfig.logprobs)."""
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
_FINISHED = ("STOP", "FINISH_REASON_UNSPECIFIED")


def request_body(settings: GeminiSettings, model: str, question: Question) -> dict[str, Any]:
    """A ``GenerateContentRequest`` (Gemini API reference, models.generateContent)."""
    generation: dict[str, Any] = {
        "temperature": question.sampling.temperature,
        "top_p": question.sampling.top_p,
        "max_output_tokens": question.max_tokens,
        "candidate_count": 1,
    }
    if question.log_probabilities:
        generation |= {"response_logprobs": True, "logprobs": _TOP_LOG_PROBABILITIES}
    threshold = f"BLOCK_{settings.block.upper()}"
    system = {"system_instruction": {"parts": [{"text": question.system}]}} if question.system else {}
    return {
        **system,
        "model": f"models/{model}",
        "contents": [{"role": "user", "parts": [{"text": question.text}]}],
        "generation_config": generation,
        "safety_settings": [{"category": f"HARM_CATEGORY_{harm}", "threshold": threshold} for harm in _HARMS],
    }


def connect(settings: GeminiSettings, model: str, service: str = "generative") -> Any:
    """The SDK's client on REST. Raises ``PluginError`` without the SDK, ``InputError`` without a key.

    ``service`` is "generative", or "model" for the service that describes models.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the SDK's farewell, at every import
            import google.generativeai as genai
            from google.generativeai import client
    except ImportError as error:
        raise PluginError(INSTALL_HINT) from error
    asked = endpoint(settings, model)
    genai.configure(api_key=key_for(settings, asked), transport="rest", client_options={"api_endpoint": asked.base_url})
    # configured for the whole process, but made here and now: another endpoint may be configured next
    made = client.get_default_generative_client() if service == "generative" else client.get_default_model_client()
    _allow_connections(made, settings.limits.in_flight)
    return made


def _allow_connections(client: Any, in_flight: int) -> None:
    """As many kept connections as requests in flight: the session's own ten would be opened and closed all the time."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        client.transport._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=in_flight))


def asking(client: Any, settings: GeminiSettings) -> Ask:
    """The call that ``Caller.map`` makes in its threads."""
    from google.generativeai import protos

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        try:
            response = client.generate_content(protos.GenerateContentRequest(body), retry=None, timeout=timeout)
        except Exception as error:
            raise problem_of(error, settings, str(body["model"]).removeprefix("models/")) from None
        return read_reply(response)

    return ask


def read_reply(response: Any) -> Reply:
    """What a response says. An empty object passes the SDK as a response without candidates: that is a fault."""
    blocked = response.prompt_feedback.block_reason
    if blocked:
        return _reply(response, "", Outcome.REFUSED, f"the question was blocked: {blocked.name}")
    if not response.candidates:
        raise Transient("the reply has no candidates")
    candidate = response.candidates[0]
    text = "".join(part.text for part in candidate.content.parts)
    finish = candidate.finish_reason.name
    if finish == "MAX_TOKENS":
        return _reply(response, text, Outcome.CUT, "the answer reached its length limit", _verdict(candidate))
    if finish not in _FINISHED:
        return _reply(response, text, Outcome.REFUSED, f"the answer was blocked: {finish}")
    return _reply(response, text, Outcome.ANSWERED, "", _verdict(candidate))


def _reply(response: Any, text: str, outcome: Outcome, detail: str, verdict: list[list[Any]] | None = None) -> Reply:
    usage = response.usage_metadata
    counted = bool(usage.prompt_token_count)
    # the total has the thoughts too, which are paid like the answer
    answered = max(usage.total_token_count - usage.prompt_token_count, usage.candidates_token_count)
    extra: dict[str, Any] = {"model": response.model_version} if response.model_version else {}
    return Reply(
        text=text,
        outcome=outcome,
        detail=detail,
        input_tokens=usage.prompt_token_count if counted else None,
        output_tokens=answered if counted else None,
        extra=extra | ({VERDICT: verdict} if verdict else {}),
    )


def _verdict(candidate: Any) -> list[list[Any]]:
    steps = candidate.logprobs_result.top_candidates
    tops = [[(top.token, top.log_probability) for top in step.candidates] for step in steps]
    return verdict_alternatives((top[0][0], top) for top in tops if top)


def problem_of(error: Exception, settings: GeminiSettings, model: str) -> CallError:
    """What an exception of the SDK means for this call: Google's own, those of requests, and protobuf's."""
    import requests
    from google.api_core import exceptions
    from google.protobuf import json_format

    if isinstance(error, exceptions.GoogleAPICallError):
        return _problem_of_status(error, settings, model)
    if isinstance(error, requests.exceptions.Timeout):
        return Transient("no answer in time")
    if isinstance(error, requests.exceptions.RequestException):
        return Transient(f"{type(error).__name__}: {error}")
    if isinstance(error, json_format.ParseError | UnicodeDecodeError):
        return Transient("the reply is no whole JSON of this protocol")
    return Permanent(f"{type(error).__name__}: {error}")


def _problem_of_status(error: Any, settings: GeminiSettings, model: str) -> CallError:
    status, message = error.code, str(error.message)
    if status == 429:
        return Transient(message, _wait_of(error), too_fast=True)
    if status in (401, 403) or "API key not valid" in message:
        return Unusable(
            f"{settings.base_url} does not accept the key in {settings.key_variable}, or not for {model!r}: {message}"
        )
    if status == 404:
        return Unusable(
            f"{settings.base_url} has no model {model!r} (any more), or base_url is wrong: {message}; "
            "name another model in the recipe or by --judge, --teacher or --evaluator gemini:MODEL"
        )
    if status == 400 and "logprobs" in message.lower():
        return Unusable(f"{model!r} gives no log-probabilities: {message}; set log_probabilities: false")
    if status in (408, 409) or status is None or status >= 500:
        return Transient(message, _wait_of(error))
    if "safety" in message.lower() or "blocked" in message.lower():
        return Refused(message)
    return Permanent(message)


def _wait_of(error: Any) -> float | None:
    """Seconds that the service asks to wait: in the header, or, as Gemini does it, in a ``RetryInfo`` of the error."""
    if (seconds := retry_after(getattr(error.response, "headers", None))) is not None:
        return seconds
    for detail in error.details or ():
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            return retry_after({"retry-after": str(detail.get("retryDelay", "")).removesuffix("s")})
    return None
