"""Google's SDK ``google-genai``: request bodies, and the classification of errors.

The SDK sends the requests through a client of ours. Its retries are off by default; ``tutelage.services`` retries
instead. Its parser raises an error for a field that it does not know, so the body of a reply is read by
``tutelage.services.gemini``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tutelage.errors import PluginError
from tutelage.services.api_key import key_to_send
from tutelage.services.chat import Question
from tutelage.services.error_bodies import error_in_reply, error_in_response
from tutelage.services.gemini import (
    PARAMETERS,
    contents,
    generation_config,
    read_reply,
    safety_settings,
    system_instruction,
)
from tutelage.services.http_client import client_options, connection_problem
from tutelage.services.problems import CallError, Permanent
from tutelage.services.proxies import check_no_proxy
from tutelage.services.reply_json import parse_reply
from tutelage.services.requests import Ask, Reply
from tutelage.services.status_errors import Advice, problem_of_error
from tutelage_google_genai.settings import PLUGIN, GoogleGenAiSettings, endpoint

if TYPE_CHECKING:
    from google import genai

INSTALL_HINT = "plugin 'google-genai' needs the google-genai package: pip install google-genai"


def request_body(settings: GoogleGenAiSettings, model: str, question: Question) -> dict[str, Any]:
    """Return the arguments of ``models.generate_content`` as plain values."""
    config = {
        **generation_config(question),
        "safety_settings": safety_settings(settings.block),
        **system_instruction(question),
    }
    return {"model": model, "contents": contents(question), "config": config}


@contextmanager
def connected(
    settings: GoogleGenAiSettings, model: str, most_bytes: int | None = None, received: list[bytes] | None = None
) -> Iterator[genai.Client]:
    """Yield the SDK's client. Bodies have at most ``most_bytes`` (default: ``limits.response_bytes``).

    The body of each response is added to ``received``. Raises ``PluginError`` if the SDK is not installed, and
    ``InputError`` if the key is missing or malformed, or if a proxy would receive the requests to a server on this
    machine.
    """
    try:
        from google import genai
    except ImportError as error:
        raise PluginError(INSTALL_HINT) from error
    called = endpoint(settings, model)
    check_no_proxy(called)
    key = key_to_send(called, settings.key_variables)
    library = http_library()
    options = client_options(library, called, most_bytes or settings.limits.response_bytes)
    if received is not None:
        options["event_hooks"]["response"].append(lambda response: received.append(response.read()))
    with library.Client(**options) as http:
        # every argument that the SDK would otherwise take from the environment
        yield genai.Client(
            vertexai=False, api_key=key, http_options={"base_url": called.base_url, "httpx_client": http}
        )


def http_library() -> Any:
    """Return the HTTP library of the SDK: httpx2, or httpx where only that is installed."""
    try:
        return importlib.import_module("httpx2")
    except ImportError:
        return importlib.import_module("httpx")


def make_ask(client: genai.Client, settings: GoogleGenAiSettings) -> Ask:
    """Return the function that ``Caller.map`` calls in its threads."""

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        raw = {"should_return_http_response": True, "http_options": {"timeout": round(timeout * 1000)}}
        try:
            response = client.models.generate_content(
                model=body["model"], contents=body["contents"], config={**body["config"], **raw}
            )
        except Exception as error:
            raise problem_of(error, settings, body["model"]) from None
        sent = response.sdk_http_response
        return reply_in(parse_reply((sent.body or "" if sent else "").encode()), settings, body["model"])

    return ask


def reply_in(value: Mapping[str, Any], settings: GoogleGenAiSettings, model: str) -> Reply:
    """Return the reply in a response's JSON. Raises the ``CallError`` of an error in it."""
    if sent := error_in_reply(value, "candidates"):
        raise problem_of_error(sent, advice(settings, model))
    return read_reply(value)


def advice(settings: GoogleGenAiSettings, model: str) -> Advice:
    """Return what the user can change, for the messages of errors."""
    return Advice(PLUGIN, model, settings.key_variable, PARAMETERS)


def problem_of(error: Exception, settings: GoogleGenAiSettings, model: str) -> CallError:
    """Classify an exception: those of the SDK, of its HTTP library, and those of the check of a response."""
    from google.genai import errors

    if isinstance(error, CallError):
        return error
    if isinstance(error, errors.APIError):
        response: Any = error.response
        sent = error_in_response(response.content, response.status_code, response.headers)
        return problem_of_error(sent, advice(settings, model))
    if isinstance(error, (http_library().HTTPError, http_library().InvalidURL)):
        return connection_problem(error, f"{type(error).__name__}: {error}")
    return Permanent(f"{type(error).__name__}: {error}")
