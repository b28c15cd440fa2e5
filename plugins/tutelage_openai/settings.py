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


def _setting(default: Any, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"help": help}, **options)


@frozen
class OpenAiSettings:
    """Settings of the plugin ``openai``. The API key is not a setting; it is read from the environment."""

    model: str = _setting(DEFAULT_MODEL, "model that is asked where the recipe names none")
    base_url: str = _setting(
        OFFICIAL_URL, "address of the service: OpenAI, Ollama, vLLM, llama.cpp, transformers serve"
    )
    key_variable: str = _setting(KEY_VARIABLE, "environment variable that holds the key")
    revision: str = _setting(
        "", "which weights a server on this machine runs; without it, its answers are not kept in the ledger"
    )
    price: Price | None = _setting(None, "US dollars per million tokens, where the price table does not know the model")
    send_sampling: bool = _setting(True, "send temperature, top-p and seed; reasoning models refuse them")
    thinking_tokens: int = _setting(
        0, "room for a reasoning model's thoughts, on top of the answer's length limit", validator=validators.ge(0)
    )
    log_probabilities: bool = _setting(
        True, "ask for log-probabilities in evaluate, so that a preference is weighted by them; some servers refuse"
    )
    extra: Mapping[str, Any] = field(
        factory=dict, metadata={"help": "further keys of the request body; null takes one of ours out"}
    )
    limits: Limits = field(factory=Limits, metadata={"help": "how hard and how patiently the service is asked"})

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
