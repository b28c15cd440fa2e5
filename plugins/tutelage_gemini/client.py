"""Google's SDK: request bodies, parsing of replies, and classification of errors.

The package google-generativeai is at its end of life, but works. Its REST transport has no asynchronous calls. Its
retries cover only one status and ignore the time-out, so they are disabled and ``tutelage.services`` retries instead.
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
"""The maximum of the service (Gemini API reference, GenerationConfig.logprobs)."""
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
_ROLES = {"user": "user", "assistant": "model"}
_FINISHED = ("STOP", "FINISH_REASON_UNSPECIFIED")


def request_body(settings: GeminiSettings, model: str, question: Question) -> dict[str, Any]:
    """Return a ``GenerateContentRequest`` (Gemini API reference, models.generateContent)."""
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
        "contents": [{"role": _ROLES[turn.role], "parts": [{"text": turn.content}]} for turn in question.turns],
        "generation_config": generation,
        "safety_settings": [{"category": f"HARM_CATEGORY_{harm}", "threshold": threshold} for harm in _HARMS],
    }


def connect(settings: GeminiSettings, model: str, service: str = "generative") -> Any:
    """Return the SDK's client with REST transport.

    ``service`` is "generative", or "model" for the service that describes models. Raises ``PluginError`` if the SDK is
    not installed, and ``InputError`` if the key is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the SDK's end-of-life notice, at every import
            import google.generativeai as genai
            from google.generativeai import client
    except ImportError as error:
        raise PluginError(INSTALL_HINT) from error
    called = endpoint(settings, model)
    options = {"api_endpoint": called.base_url}
    genai.configure(api_key=key_for(settings, called), transport="rest", client_options=options)
    # The configuration is global to the process, so the client is created before another endpoint is configured.
    created = client.get_default_generative_client() if service == "generative" else client.get_default_model_client()
    _allow_connections(created, settings.limits.in_flight)
    return created


def _allow_connections(client: Any, in_flight: int) -> None:
    """Keep one connection per request in flight. With the default of ten, connections would be reopened constantly."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        client.transport._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=in_flight))


def make_ask(client: Any, settings: GeminiSettings) -> Ask:
    """Return the function that ``Caller.map`` calls in its threads."""
    from google.generativeai import protos

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        try:
            response = client.generate_content(protos.GenerateContentRequest(body), retry=None, timeout=timeout)
        except Exception as error:
            raise problem_of(error, settings, str(body["model"]).removeprefix("models/")) from None
        return read_reply(response)

    return ask


def read_reply(response: Any) -> Reply:
    """Return the reply of a response, with its outcome and tokens.

    Raises ``Transient`` for a response without candidates: the SDK accepts an empty object as one.
    """
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
    # the total includes thinking tokens, which are billed like the answer
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
    """Classify an exception of the SDK: those of Google, of requests and of protobuf."""
    import requests
    from google.api_core import exceptions
    from google.protobuf import json_format

    if isinstance(error, exceptions.GoogleAPICallError):
        return _problem_of_status(error, settings, model)
    if isinstance(error, requests.exceptions.Timeout):
        return Transient("time-out: no answer")
    if isinstance(error, requests.exceptions.RequestException):
        return Transient(f"{type(error).__name__}: {error}")
    if isinstance(error, json_format.ParseError | UnicodeDecodeError):
        return Transient("the reply is not complete JSON of this protocol")
    return Permanent(f"{type(error).__name__}: {error}")


def _problem_of_status(error: Any, settings: GeminiSettings, model: str) -> CallError:
    status, message = error.code, str(error.message)
    if status == 429:
        return Transient(message, _requested_wait(error), too_fast=True)
    if status in (401, 403) or "API key not valid" in message:
        return Unusable(
            f"{settings.base_url} rejects the key in {settings.key_variable}, at least for model {model!r}: {message}"
        )
    if status == 404:
        return Unusable(
            f"{settings.base_url} has no model {model!r} (perhaps removed), or base_url is wrong: {message}; "
            "choose another model in the recipe or with --judge, --teacher or --evaluator gemini:MODEL"
        )
    if status == 400 and "logprobs" in message.lower():
        return Unusable(f"model {model!r} does not support log-probabilities: {message}; set log_probabilities: false")
    if status in (408, 409) or status is None or status >= 500:
        return Transient(message, _requested_wait(error))
    if "safety" in message.lower() or "blocked" in message.lower():
        return Refused(message)
    return Permanent(message)


def _requested_wait(error: Any) -> float | None:
    """Seconds that the service asks to wait, from the header or, for Gemini, from a ``RetryInfo`` of the error."""
    if (seconds := retry_after(getattr(error.response, "headers", None))) is not None:
        return seconds
    for detail in error.details or ():
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            return retry_after({"retry-after": str(detail.get("retryDelay", "")).removesuffix("s")})
    return None
