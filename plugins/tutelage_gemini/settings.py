"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

import os
from typing import Any, Literal

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


def _setting(default: Any, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"help": help}, **options)


@frozen
class GeminiSettings:
    """Settings of the plugin ``gemini``. The API key is not a setting; it is read from the environment."""

    model: str = _setting(DEFAULT_MODEL, "model that is asked where the recipe names none")
    base_url: str = _setting(OFFICIAL_URL, "address of the service, without a path")
    key_variable: str = _setting(
        KEY_VARIABLE, f"environment variable that holds the key; {OTHER_KEY_VARIABLE} is looked at where it is not set"
    )
    revision: str = _setting(
        "", "which weights a server on this machine runs; without it, its answers are not kept in the ledger"
    )
    price: Price | None = _setting(None, "US dollars per million tokens, where the price table does not know the model")
    block: Block = _setting("only_high", "from which probability of harm on the service blocks an answer")
    thinking_tokens: int = _setting(
        0, "room for a reasoning model's thoughts, on top of the answer's length limit", validator=validators.ge(0)
    )
    log_probabilities: bool = _setting(
        False, "ask for log-probabilities in evaluate, so that a preference is weighted by them; most models refuse"
    )
    limits: Limits = field(factory=Limits, metadata={"help": "how hard and how patiently the service is asked"})


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
