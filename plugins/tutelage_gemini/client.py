"""Google's SDK: request bodies, and the classification of errors. Replies are read in ``tutelage.services.gemini``.

The package google-generativeai is at its end of life, but works. Its REST transport has no asynchronous calls. Its
retries cover only one status and ignore the time-out, so they are disabled and ``tutelage.services`` retries instead.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from tutelage.errors import PluginError
from tutelage.installation import install_command
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
from tutelage.services.problems import CallError, Permanent, Transient, Unusable
from tutelage.services.proxies import check_no_proxy
from tutelage.services.redaction import WithoutExtras
from tutelage.services.reply_json import parse_reply
from tutelage.services.requests import Ask, Reply
from tutelage.services.status_errors import Advice, problem_of_error
from tutelage_gemini.settings import GeminiSettings, endpoint

_LOGGERS = ("generative_service", "model_service")
"""Services of the SDK whose loggers write each request with its headers at DEBUG."""


def request_body(settings: GeminiSettings, model: str, question: Question) -> dict[str, Any]:
    """Return a ``GenerateContentRequest`` (Gemini API reference, models.generateContent)."""
    return {
        **system_instruction(question),
        "model": f"models/{model}",
        "contents": contents(question),
        "generation_config": generation_config(question),
        "safety_settings": safety_settings(settings.block),
    }


def connect(settings: GeminiSettings, model: str, service: str = "generative") -> Any:
    """Return the SDK's client with REST transport.

    ``service`` is "generative", or "model" for the service that describes models. Raises ``PluginError`` if the SDK is
    not installed, and ``InputError`` if the key is missing or malformed, or if a proxy would receive the requests to a
    server on this machine.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the SDK's end-of-life notice, at every import
            import google.generativeai as genai
            from google.generativeai import client
    except ImportError as error:
        raise PluginError(
            f"plugin 'gemini' needs the google-generativeai package; run: {install_command('gemini')}"
        ) from error
    from tutelage_gemini.transport import CheckingAdapter

    called = endpoint(settings, model)
    check_no_proxy(called)
    key = key_to_send(called, settings.key_variables)
    genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": called.base_url})
    # The configuration is global to the process, so the client is created before another endpoint is configured.
    created = client.get_default_generative_client() if service == "generative" else client.get_default_model_client()
    for name in _LOGGERS:
        logger = logging.getLogger(f"google.ai.generativelanguage_v1beta.services.{name}.transports.rest")
        logger.addFilter(_WITHOUT_HEADERS)
    adapter = CheckingAdapter(settings.limits, direct=called.on_this_machine, keeps_bodies=service == "generative")
    session = created.transport._session
    session._refresh_status_codes = ()  # an API key cannot be refreshed: a 401 would only be requested three times
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return created


_WITHOUT_HEADERS = WithoutExtras()


def make_ask(client: Any, settings: GeminiSettings) -> Ask:
    """Return the function that ``Caller.map`` calls in its threads."""
    from google.generativeai import protos

    received = client.transport._session.get_adapter("https://")

    def ask(body: Mapping[str, Any], timeout: float) -> Reply:
        model = str(body["model"]).removeprefix("models/")
        try:
            client.generate_content(protos.GenerateContentRequest(body), retry=None, timeout=timeout)
        except Exception as error:
            raise problem_of(error, settings, model) from None
        value = parse_reply(received.take_body())
        if sent := error_in_reply(value, "candidates"):
            raise problem_of_error(sent, advice(settings, model))
        return read_reply(value)

    return ask


def advice(settings: GeminiSettings, model: str) -> Advice:
    """Return what the user can change, for the messages of errors."""
    return Advice("gemini", model, settings.key_variable, PARAMETERS)


def problem_of(error: Exception, settings: GeminiSettings, model: str) -> CallError:
    """Classify an exception of the SDK: those of Google, of requests, and those that the transport raised."""
    import requests
    from google.api_core import exceptions

    if isinstance(error, CallError):
        return error
    if isinstance(error, exceptions.GoogleAPICallError):
        return _problem_of_status(error, settings, model)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Transient("time-out: no connection", unreachable=True)
    if isinstance(error, requests.exceptions.Timeout):
        return Transient("time-out: no answer")
    if isinstance(error, requests.exceptions.SSLError):
        return Unusable(f"the certificate of the service is not trusted, or it does not speak TLS: {error}")
    if isinstance(error, requests.exceptions.ConnectionError):
        return Transient(f"{type(error).__name__}: {error}", unreachable=_is_unreachable(error))
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return Unusable(f"base_url is not an address: {error}")
    if isinstance(error, requests.exceptions.RequestException):
        return Transient(f"{type(error).__name__}: {error}")
    return Permanent(f"{type(error).__name__}: {error}")


def _is_unreachable(error: Exception) -> bool:
    """Whether no connection was made: urllib3 then ends its retries with ``NewConnectionError`` or a proxy's error."""
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(error, requests.exceptions.ProxyError) or isinstance(reason, NewConnectionError)


def _problem_of_status(error: Any, settings: GeminiSettings, model: str) -> CallError:
    if error.response is None:
        return Transient(str(error))
    body = getattr(error.response, "checked_body", error.response.content)
    sent = error_in_response(body, error.response.status_code, error.response.headers)
    return problem_of_error(sent, advice(settings, model))
