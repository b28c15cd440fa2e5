"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

from tutelage.services.address import check_address
from tutelage.services.api_key import secret_in
from tutelage.services.prices import Price
from tutelage.services.requests import Endpoint, Limits

OFFICIAL_URL = "https://generativelanguage.googleapis.com"
KEY_VARIABLE = "GEMINI_API_KEY"
OTHER_KEY_VARIABLE = "GOOGLE_API_KEY"
"""Google's older name of the variable."""
DEFAULT_MODEL = "gemini-2.5-flash-lite"
"""A current model without thinking tokens. The published method used gemini-1.0-pro."""

Block = Literal["none", "only_high", "medium_and_above", "low_and_above"]


@frozen
class GeminiSettings:
    """Settings of the plugin ``gemini``. The API key is not a setting; it is read from the environment."""

    model: str = DEFAULT_MODEL
    """Model that is called if the recipe names none."""
    base_url: str = field(default=OFFICIAL_URL, validator=check_address)
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

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables that may hold the key, in the order in which they are read."""
        return (self.key_variable, OTHER_KEY_VARIABLE)


def endpoint(settings: GeminiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    settings = settings or GeminiSettings()
    return Endpoint(
        provider="gemini",
        base_url=settings.base_url.rstrip("/"),
        model=(model or settings.model).removeprefix("models/"),
        revision=settings.revision,
        price=settings.price,
        secret=secret_in(settings.key_variables),
    )
