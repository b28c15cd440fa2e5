"""OpenAI's SDK: request bodies, parsing of replies, and classification of errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tutelage.errors import PluginError
from tutelage.files.trl_format import message_rows
from tutelage.preferences.token_weights import verdict_alternatives
from tutelage.records import Outcome
from tutelage.services.chat import VERDICT, Question
from tutelage.services.problems import CallError, Permanent, Refused, Transient, Unusable, retry_after
from tutelage.services.requests import Ask, Reply
from tutelage_openai.settings import OpenAiSettings, endpoint, key_for

if TYPE_CHECKING:
    import openai

INSTALL_HINT = "plugin 'openai' needs the openai package: pip install 'tutelage[openai]'"
_TOP_LOG_PROBABILITIES = 10
_LARGEST_SEED = 2**31
_OUTCOMES = {"length": Outcome.CUT, "content_filter": Outcome.REFUSED}
_FILTERED = ("content_filter", "content_policy_violation")
_SETTING_OF = {
    "temperature": "send_sampling: false",
    "top_p": "send_sampling: false",
    "seed": "send_sampling: false",
    "logprobs": "log_probabilities: false",
    "top_logprobs": "log_probabilities: false",
}
"""Parameters that some models reject, and the setting that omits each."""


def request_body(settings: OpenAiSettings, model: str, question: Question) -> dict[str, Any]:
    """Return the body of ``POST /chat/completions`` (OpenAI API reference, Chat)."""
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages += message_rows(question.turns)
    body: dict[str, Any] = {"model": model, "messages": messages}
    # OpenAI's newer models accept only the new name; other servers often accept only the old one.
    body["max_completion_tokens" if settings.official else "max_tokens"] = question.max_tokens
    if settings.send_sampling:
        body["temperature"] = question.sampling.temperature
        body["top_p"] = question.sampling.top_p
        body["seed"] = question.sample % _LARGEST_SEED
    if question.log_probabilities:
        body |= {"logprobs": True, "top_logprobs": _TOP_LOG_PROBABILITIES}
    body |= settings.extra
    return {key: value for key, value in body.items() if value is not None}


@contextmanager
def connected(settings: OpenAiSettings, model: str) -> Iterator[openai.OpenAI]:
    """Yield the SDK's client with its retries disabled.

    Raises ``PluginError`` if the SDK is not installed, and ``InputError`` if the key is missing.
    """
    try:
        import openai
    except ImportError as error:
        raise PluginError(INSTALL_HINT) from error
    key = key_for(settings, endpoint(settings, model))
    with openai.OpenAI(api_key=key, base_url=settings.base_url, max_retries=0) as client:
        yield client


def make_ask(client: openai.OpenAI, settings: OpenAiSettings) -> Ask:
    """Return the function that ``Caller.map`` calls in its threads."""
    import openai
    from openai.types.chat import ChatCompletion

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        try:
            completion = client.post(
                "/chat/completions", body=dict(body), cast_to=ChatCompletion, options={"timeout": timeout}
            )
        except openai.OpenAIError as error:
            raise problem_of(error, settings, str(body["model"])) from None
        except json.JSONDecodeError:
            raise Transient("the reply is not complete JSON") from None
        return read_reply(completion)

    return ask


def read_reply(completion: Any) -> Reply:
    """Return the reply of a completion, with its outcome and tokens.

    Raises ``Transient`` for a reply without choices: the SDK accepts an empty object, and returns HTML as text.
    """
    choices = getattr(completion, "choices", None)
    if not choices or choices[0].message is None:
        raise Transient(f"the reply has no choices: {str(completion)[:200]}")
    choice, usage = choices[0], completion.usage
    refusal = getattr(choice.message, "refusal", None)
    outcome = Outcome.REFUSED if refusal else _OUTCOMES.get(choice.finish_reason, Outcome.ANSWERED)
    return Reply(
        text=choice.message.content or "",
        outcome=outcome,
        detail=_detail(outcome, refusal),
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        extra=_extra(completion.model, choice),
    )


def _detail(outcome: Outcome, refusal: str | None) -> str:
    if outcome is Outcome.REFUSED:
        return refusal or "blocked by the service's content filter"
    return "the answer reached its length limit" if outcome is Outcome.CUT else ""


def _extra(model: str | None, choice: Any) -> dict[str, Any]:
    extra: dict[str, Any] = {"model": model} if model else {}
    tokens = choice.logprobs.content if choice.logprobs else None
    if tokens:
        alternatives = ((token.token, [(top.token, top.logprob) for top in token.top_logprobs]) for token in tokens)
        extra[VERDICT] = verdict_alternatives(alternatives)
    return extra


def problem_of(error: openai.OpenAIError, settings: OpenAiSettings, model: str) -> CallError:
    """Classify an error of the SDK."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Transient("time-out: no answer")
    if isinstance(error, openai.APIConnectionError):
        return Transient(f"{error} {error.__cause__ or ''}".strip())
    if isinstance(error, openai.APIStatusError):
        return _problem_of_status(error, settings, model)
    return Transient(f"{type(error).__name__}: {error}")


def _problem_of_status(error: openai.APIStatusError, settings: OpenAiSettings, model: str) -> CallError:
    status, message = error.status_code, _message(error)
    if status == 429 and error.code == "insufficient_quota":
        return Unusable(f"the account at {settings.base_url} is out of credit: {message}")
    if status == 429:
        return Transient(message, retry_after(error.response.headers), too_fast=True)
    if status in (401, 403):
        return Unusable(
            f"{settings.base_url} rejects the key in {settings.key_variable}, at least for model {model!r}: {message}"
        )
    if status == 404:
        return Unusable(
            f"{settings.base_url} has no model {model!r} (perhaps removed), or base_url is wrong: {message}; "
            "choose another model in the recipe or with --judge, --teacher or --evaluator openai:MODEL"
        )
    if status in (408, 409) or status >= 500:
        return Transient(message, retry_after(error.response.headers))
    if error.code in _FILTERED:
        return Refused(message)
    if error.param in _SETTING_OF:
        return Unusable(f"model {model!r} does not accept {error.param}: {message}; set {_SETTING_OF[error.param]}")
    return Permanent(message)


def _message(error: openai.APIStatusError) -> str:
    """The service's message. If it is not in OpenAI's format, the SDK gives only the status; the body is then added."""
    message = str(error.message)
    body = f": {error.response.text[:300]}" if message.startswith("Error code") else ""
    return message if body in message else message + body
