"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen, validators

from tutelage.errors import InputError
from tutelage.services.prices import Price
from tutelage.services.requests import Endpoint, Limits

OFFICIAL_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_MODEL = "gpt-4-turbo"
"""The evaluator of the published method."""

_NO_KEY = "none"
"""Sent to a server on this machine that needs no key, because the SDK requires one."""


@frozen
class OpenAiSettings:
    """Settings of the plugin ``openai``. The API key is not a setting; it is read from the environment."""

    model: str = DEFAULT_MODEL
    """Model that is called if the recipe names none."""
    base_url: str = OFFICIAL_URL
    """Address of the service: OpenAI, Ollama, vLLM, llama.cpp or `transformers serve`."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the API key."""
    revision: str = ""
    """Version of the weights, for a server on this machine. Without it, its answers are not stored in the ledger."""
    price: Price | None = None
    """US dollars per million tokens. Needed for a budget if the price table does not have the model."""
    send_sampling: bool = True
    """Send temperature, top-p and seed. Reasoning models reject them."""
    thinking_tokens: int = field(default=0, validator=validators.ge(0))
    """Tokens for the thoughts of a reasoning model, in addition to the length limit of the answer."""
    log_probabilities: bool = True
    """Request log-probabilities in `evaluate`, to weight preferences by them. Some servers reject the request."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Further keys of the request body. A null value removes a key that the plugin sets."""
    limits: Limits = field(factory=Limits)
    """Limits on rate, retries and time of the calls."""

    @property
    def official(self) -> bool:
        """Whether ``base_url`` is OpenAI's service."""
        return self.base_url.rstrip("/") == OFFICIAL_URL


def endpoint(settings: OpenAiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    settings = settings or OpenAiSettings()
    return Endpoint(
        provider="openai",
        base_url=settings.base_url,
        model=model or settings.model,
        revision=settings.revision,
        price=settings.price,
        secret=os.environ.get(settings.key_variable, ""),
    )


def key_for(settings: OpenAiSettings, service: Endpoint) -> str:
    """Return the API key to send. Raises ``InputError`` if the service needs one and the environment has none."""
    if service.secret:
        return service.secret
    if service.on_this_machine:
        return _NO_KEY
    raise InputError(
        f"plugin 'openai' needs a key for {settings.base_url}: set the environment variable "
        f"{settings.key_variable}, or name another variable in the setting key_variable"
    )
