"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

from attrs import frozen

from tutelage.services.gemini import GeminiProtocolSettings
from tutelage.services.requests import Endpoint


@frozen
class GeminiSettings(GeminiProtocolSettings):
    """Settings of the plugin ``gemini``. The API key is not a setting; it is read from the environment."""


def endpoint(settings: GeminiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    return (settings or GeminiSettings()).endpoint("gemini", model)
