"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

import os
from typing import Literal

from attrs import field, frozen, validators

from tutelage.errors import InputError
from tutelage.services.prices import Price
from tutelage.services.requests import Endpoint, Limits

OFFICIAL_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLE = "GEMINI_API_KEY"
OTHER_KEY_VARIABLE = "GOOGLE_API_KEY"
"""Google's older name of the variable."""
DEFAULT_MODEL = "gemini-2.5-flash-lite"
"""A current model without thinking tokens. The published method used gemini-1.0-pro."""

_NO_KEY = "none"
"""Sent to a server on this machine that needs no key, because the SDK requires one."""

Block = Literal["none", "only_high", "medium_and_above", "low_and_above"]


@frozen
class GeminiSettings:
    """Settings of the plugin ``gemini``. The API key is not a setting; it is read from the environment."""

    model: str = DEFAULT_MODEL
    """Model that is called if the recipe names none."""
    base_url: str = OFFICIAL_URL
    """Address of the service, without a path."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the API key. If it is not set, GOOGLE_API_KEY is used."""
    revision: str = ""
    """Version of the weights, for a server on this machine. Without it, its answers are not stored in the ledger."""
    price: Price | None = None
    """US dollars per million tokens. Needed for a budget if the price table does not have the model."""
    block: Block = "only_high"
    """Probability of harm from which the service blocks an answer."""
    thinking_tokens: int = field(default=0, validator=validators.ge(0))
    """Tokens for the thoughts of a reasoning model, in addition to the length limit of the answer."""
    log_probabilities: bool = False
    """Request log-probabilities in `evaluate`, to weight preferences by them. Most models reject the request."""
    limits: Limits = field(factory=Limits)
    """Limits on rate, retries and time of the calls."""


def endpoint(settings: GeminiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    settings = settings or GeminiSettings()
    variables = (settings.key_variable, OTHER_KEY_VARIABLE)
    return Endpoint(
        provider="gemini",
        base_url=settings.base_url.rstrip("/"),
        model=(model or settings.model).removeprefix("models/"),
        revision=settings.revision,
        price=settings.price,
        secret=next((key for name in variables if (key := os.environ.get(name))), ""),
    )


def key_for(settings: GeminiSettings, service: Endpoint) -> str:
    """Return the API key to send. Raises ``InputError`` if the service needs one and the environment has none."""
    if service.secret:
        return service.secret
    if service.on_this_machine:
        return _NO_KEY
    raise InputError(
        f"plugin 'gemini' needs a key for {settings.base_url}: set the environment variable "
        f"{settings.key_variable}, or name another variable in the setting key_variable"
    )
