"""What a recipe may set for this plugin, and what follows from it."""

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
"""What a server on this machine is given, where it wants no key and the SDK wants one."""


def _setting(default: Any, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"help": help}, **options)


@frozen
class OpenAiSettings:
    """Settings of plugin ``openai``. The key itself is never a setting: it stays in the environment."""

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
        """Whether this is OpenAI's own service."""
        return self.base_url.rstrip("/") == OFFICIAL_URL


def endpoint(settings: OpenAiSettings | None, model: str) -> Endpoint:
    """Which model of which service is asked."""
    settings = settings or OpenAiSettings()
    return Endpoint(
        provider="openai",
        base_url=settings.base_url,
        model=model or settings.model,
        revision=settings.revision,
        price=settings.price,
        secret=os.environ.get(settings.key_variable, ""),
    )


def key_for(settings: OpenAiSettings, asked: Endpoint) -> str:
    """The key to send. Raises ``InputError`` where the service needs one and the environment has none."""
    if asked.secret:
        return asked.secret
    if asked.on_this_machine:
        return _NO_KEY
    raise InputError(
        f"plugin 'openai' needs a key for {settings.base_url}: put it into the environment variable "
        f"{settings.key_variable} (another one: setting key_variable)"
    )
