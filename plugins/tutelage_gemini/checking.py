"""The check of ``tutelage doctor``: SDK, key, endpoint and model, with one call that is free of charge."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from tutelage.plugin_info import Finding
from tutelage.plugins.service_checks import key_finding, service_findings
from tutelage.services.requests import Endpoint
from tutelage_gemini.settings import GeminiSettings, endpoint

_TIMEOUT_SECONDS = 10.0


def check(settings: GeminiSettings | None, model: str) -> Iterator[Finding]:
    """Yield a finding for each item that the plugin needs, up to the first that is missing.

    The call requests the description of the model.
    """
    from tutelage_gemini import client

    settings = settings or GeminiSettings()
    service = endpoint(settings, model)
    yield from service_findings(
        _found(settings, service), service, lambda error: client.problem_of(error, settings, service.model)
    )


def _found(settings: GeminiSettings, service: Endpoint) -> Iterator[Finding]:
    from tutelage_gemini import client

    models = client.connect(settings, service.model, "model")
    yield Finding("SDK", True, f"google-generativeai {version('google-generativeai')}")
    yield key_finding(service, settings.key_variable)
    models.get_model(name=f"models/{service.model}", retry=None, timeout=_TIMEOUT_SECONDS)
    yield Finding("endpoint", True, settings.base_url)
    yield Finding("model", True, service.model)
