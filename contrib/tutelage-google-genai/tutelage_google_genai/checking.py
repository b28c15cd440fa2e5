"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.plugin_info import Finding
from tutelage.plugins.service_checks import key_finding, service_findings
from tutelage.services.requests import Endpoint
from tutelage_google_genai.settings import GoogleGenAiSettings, endpoint

_TIMEOUT_MILLISECONDS = 10_000


def check(settings: GoogleGenAiSettings | None, model: str) -> Iterator[Finding]:
    """Yield a finding for each item that the plugin needs, up to the first that is missing.

    The call requests the description of the model.
    """
    from tutelage_google_genai import client

    settings = settings or GoogleGenAiSettings()
    service = endpoint(settings, model)
    yield from service_findings(
        _found(settings, service), service, lambda error: client.problem_of(error, settings, service.model)
    )


def _found(settings: GoogleGenAiSettings, service: Endpoint) -> Iterator[Finding]:
    from tutelage_google_genai import client

    with client.connected(settings, service.model) as connection:
        from google import genai

        yield Finding("SDK", True, f"google-genai {genai.__version__}")
        yield key_finding(service, settings.key_variable)
        connection.models.get(model=service.model, config={"http_options": {"timeout": _TIMEOUT_MILLISECONDS}})
    yield Finding("endpoint", True, settings.base_url)
    yield Finding("model", True, service.model)
