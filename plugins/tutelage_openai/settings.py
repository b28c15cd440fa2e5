"""The settings of the plugin, and the endpoint and key that result from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen, validators

from tutelage.services.address import check_address
from tutelage.services.api_key import secret_in
from tutelage.services.batch_service import BatchLimits
from tutelage.services.prices import Price
from tutelage.services.requests import Endpoint, Limits

OFFICIAL_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_MODEL = "gpt-4-turbo"
"""The evaluator of the published method."""

LengthParameter = Literal["auto", "max_tokens", "max_completion_tokens"]


@frozen
class OpenAiSettings:
    """Settings of the plugin ``openai``. The API key is not a setting; it is read from the environment."""

    model: str = DEFAULT_MODEL
    """Model that is called if the recipe names none."""
    base_url: str = field(default=OFFICIAL_URL, validator=check_address)
    """Address of the service: OpenAI, Ollama, vLLM, llama.cpp or `transformers serve`."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the API key."""
    revision: str = ""
    """Version of the weights, for a server on this machine. Without it, its answers are not stored in the ledger."""
    price: Price | None = None
    """US dollars per million tokens. Needed for a budget if the price table does not have the model."""
    send_sampling: bool = True
    """Send temperature, top-p and seed. Reasoning models reject them."""
    length_parameter: LengthParameter = "auto"
    """Name of the length limit in the request. auto: max_completion_tokens for OpenAI, max_tokens for other servers."""
    thinking_tokens: int = field(default=0, validator=validators.ge(0))
    """Tokens for the thoughts of a reasoning model, in addition to the length limit of the answer."""
    log_probabilities: bool = True
    """Request log-probabilities in `evaluate`, to weight preferences by them. Some servers reject the request."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Further keys of the request body. A null value removes a key that the plugin sets."""
    batch: bool = False
    """Send the requests of `judge`, `demonstrate` and `evaluate` in batches: half the price, answered within a day."""
    batch_limits: BatchLimits = field(factory=BatchLimits)
    """Limits of the batches."""
    limits: Limits = field(factory=Limits)
    """Limits on rate, retries and time of the calls."""

    @property
    def official(self) -> bool:
        """Whether ``base_url`` is OpenAI's service."""
        return self.base_url.rstrip("/") == OFFICIAL_URL

    @property
    def length_key(self) -> str:
        """The key of the length limit. OpenAI's newer models accept only the new name, other servers often the old."""
        if self.length_parameter != "auto":
            return self.length_parameter
        return "max_completion_tokens" if self.official else "max_tokens"


def endpoint(settings: OpenAiSettings | None, model: str) -> Endpoint:
    """Return the model and service that are called, with the key of the environment."""
    settings = settings or OpenAiSettings()
    return Endpoint(
        provider="openai",
        base_url=settings.base_url,
        model=model or settings.model,
        revision=settings.revision,
        price=settings.price,
        batch=settings.batch,
        secret=secret_in((settings.key_variable,)),
    )


def parameters(settings: OpenAiSettings) -> dict[str, str]:
    """Return the setting to change for each parameter that a model may reject."""
    other_key = "max_tokens" if settings.length_key == "max_completion_tokens" else "max_completion_tokens"
    return {
        "temperature": "set send_sampling: false",
        "top_p": "set send_sampling: false",
        "seed": "set extra: {seed: null}",
        "logprobs": "set log_probabilities: false",
        "top_logprobs": "set log_probabilities: false",
        settings.length_key: f"set length_parameter: {other_key}",
        **{key.lower(): f"remove {key} from the setting extra" for key in settings.extra},
    }
