"""OpenAI's SDK: request bodies, and the classification of errors. Replies are read in ``replies``.

The SDK sends the requests. Its retries and redirects are disabled; ``tutelage.services`` retries instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tutelage.errors import PluginError
from tutelage.files.trl_format import message_rows
from tutelage.installation import install_command
from tutelage.services.api_key import key_to_send
from tutelage.services.chat import Question
from tutelage.services.error_bodies import error_in_reply, error_in_response
from tutelage.services.http_client import client_options, connection_problem, library_of, timeouts
from tutelage.services.problems import CallError, Transient
from tutelage.services.proxies import check_no_proxy
from tutelage.services.reply_json import parse_reply
from tutelage.services.requests import Ask, Reply
from tutelage.services.status_errors import Advice, problem_of_error
from tutelage_openai.replies import read_reply
from tutelage_openai.settings import OpenAiSettings, endpoint, parameters

if TYPE_CHECKING:
    import openai

_TOP_LOG_PROBABILITIES = 10
STREAMED_PATH = "/content"
"""The end of the paths of files, which are read line by line."""
_LARGEST_SEED = 2**31


def request_body(settings: OpenAiSettings, model: str, question: Question) -> dict[str, Any]:
    """Return the body of ``POST /chat/completions`` (OpenAI API reference, Chat)."""
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages += message_rows(question.turns)
    body: dict[str, Any] = {"model": model, "messages": messages}
    body[settings.length_key] = question.max_tokens
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

    Raises ``PluginError`` if the SDK is not installed, and ``InputError`` if the key is missing or malformed, or if a
    proxy would receive the requests to a server on this machine.
    """
    try:
        import openai
    except ImportError as error:
        raise PluginError(f"plugin 'openai' needs the openai package; run: {install_command('openai')}") from error
    called = endpoint(settings, model)
    check_no_proxy(called)
    key = key_to_send(called, (settings.key_variable,))
    options = client_options(
        library_of(openai.DefaultHttpxClient),
        called,
        settings.limits.response_bytes,
        streamed=STREAMED_PATH,
        before=_with_own_headers(key, settings.official),
    )
    http = openai.DefaultHttpxClient(**options)
    with openai.OpenAI(api_key=key, base_url=settings.base_url, max_retries=0, http_client=http) as client:
        yield client


def _with_own_headers(key: str, is_official: bool) -> Callable[[Any], None]:
    """A hook that sets the headers which the SDK may have taken from variables of the environment.

    The key is always the configured one (``OPENAI_CUSTOM_HEADERS`` can hold another). Only OpenAI gets the names of the
    organization and the project (``OPENAI_ORG_ID``, ``OPENAI_PROJECT_ID``).
    """

    def set_headers(request: Any) -> None:
        request.headers["Authorization"] = f"Bearer {key}"
        if not is_official:
            for name in ("OpenAI-Organization", "OpenAI-Project"):
                request.headers.pop(name, None)

    return set_headers


def make_ask(client: openai.OpenAI, settings: OpenAiSettings) -> Ask:
    """Return the function that ``Caller.map`` calls in its threads."""
    import openai

    library = library_of(openai.DefaultHttpxClient)

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        model = str(body.get("model", ""))
        options: Any = {"timeout": timeouts(library, timeout)}
        try:
            response = client.post("/chat/completions", body=dict(body), cast_to=library.Response, options=options)
        except openai.OpenAIError as error:
            raise problem_of(error, settings, model) from None
        return reply_in(parse_reply(response.content), settings, model)

    return ask


def reply_in(value: Mapping[str, Any], settings: OpenAiSettings, model: str) -> Reply:
    """Return the reply in a completion. Raises the ``CallError`` of an error in it."""
    if sent := error_in_reply(value, "choices"):
        raise problem_of_error(sent, advice(settings, model))
    return read_reply(value)


def advice(settings: OpenAiSettings, model: str) -> Advice:
    """Return what the user can change, for the messages of errors."""
    return Advice("openai", model, settings.key_variable, parameters(settings))


def problem_of(error: Exception, settings: OpenAiSettings, model: str) -> CallError:
    """Classify an error of the SDK."""
    import openai

    cause = error.__cause__
    if isinstance(error, CallError):  # raised by the check of the response
        return error
    if isinstance(cause, CallError):  # the same, wrapped by version 2 of the SDK
        return cause
    if isinstance(error, openai.APIConnectionError):
        return connection_problem(cause, f"{error} {cause or ''}".strip())
    if isinstance(error, openai.APIStatusError):
        return _problem_of_status(error, settings, model)
    return Transient(f"{type(error).__name__}: {error}")


def _problem_of_status(error: openai.APIStatusError, settings: OpenAiSettings, model: str) -> CallError:
    sent = error_in_response(error.response.content, error.status_code, error.response.headers)
    return problem_of_error(sent, advice(settings, model))
