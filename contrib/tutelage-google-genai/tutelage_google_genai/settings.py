"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

from attrs import evolve, field, frozen

from tutelage.services.batch_service import BatchLimits
from tutelage.services.gemini import GeminiProtocolSettings
from tutelage.services.requests import Endpoint

PLUGIN = "google-genai"


@frozen
class GoogleGenAiSettings(GeminiProtocolSettings):
    """Settings of the plugin ``google-genai``. The API key is not a setting; it is read from the environment."""

    batch: bool = False
    """Send the requests of `judge`, `demonstrate` and `evaluate` in batches: half the price, answered within a day."""
    batch_limits: BatchLimits = field(factory=BatchLimits)
    """Limits of the batches."""


def endpoint(settings: GoogleGenAiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    settings = settings or GoogleGenAiSettings()
    return evolve(settings.endpoint(PLUGIN, model), batch=settings.batch)
