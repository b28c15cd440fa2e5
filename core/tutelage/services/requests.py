"""The records of a call: limits, endpoint, request, reply and answer."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen, validators

from tutelage.records import Outcome
from tutelage.services.ledger import key_of
from tutelage.services.prices import Price, cost
from tutelage.services.redaction import redact

T = TypeVar("T")

BATCH_STAGES = ("judge", "demonstrate", "evaluate")
"""Stages that send their requests in batches if the plugin's setting ``batch`` is true."""
BATCH_PRICE = 0.5
"""Share of the price that a request in a batch costs (OpenAI: Batch API; Gemini: Batch Mode)."""


@frozen
class Limits:
    """Limits on rate, retries and time for the calls of a service. Meant as a field of a plugin's settings class."""

    in_flight: int = field(default=8, validator=validators.ge(1))
    """Maximum number of requests in flight. The number is lowered while the service reports an overload."""
    requests_per_minute: float | None = field(default=None, validator=validators.optional(validators.gt(0)))
    """Limit of the account on requests per minute; null if it has none."""
    tokens_per_minute: float | None = field(default=None, validator=validators.optional(validators.gt(0)))
    """Limit of the account on input and output tokens per minute; null if it has none."""
    attempts: int = field(default=10, validator=validators.ge(1))
    """Maximum number of attempts per request."""
    attempt_seconds: float = field(default=120.0, validator=validators.gt(0))
    """Time-out of one attempt, in seconds."""
    total_seconds: float = field(default=600.0, validator=validators.gt(0))
    """Time-out of a request with all its attempts, in seconds."""
    first_wait: float = field(default=1.0, validator=validators.gt(0))
    """Maximum of the random wait before the second attempt, in seconds; doubled for each further attempt."""
    failures_in_a_row: int = field(default=50, validator=validators.ge(1))
    """The step stops after this number of failed requests in a row."""
    response_bytes: int = field(default=2 * 2**20, validator=validators.ge(1))
    """Maximum size of a response in bytes, decompressed. A request whose response is larger fails."""


@frozen
class Endpoint:
    """A model of a service."""

    provider: str
    """The plugin's name, or another name of the protocol. Part of the ledger's key."""
    base_url: str
    """Address of the service."""
    model: str
    """Name of the model at the service."""
    revision: str = ""
    """Version of the weights. Answers of a server on this machine are stored only if it is given."""
    price: Price | None = None
    """The user's price; None means that of the price table."""
    batch: bool = False
    """Whether the stages in ``BATCH_STAGES`` send their requests in batches."""
    secret: str = field(default="", repr=False, eq=False)
    """The API key. It is removed from every text of the service, answers and errors."""

    @property
    def kept(self) -> bool:
        """Whether answers are stored in the ledger and reused."""
        return bool(self.revision) or not self.on_this_machine

    @property
    def on_this_machine(self) -> bool:
        """Whether the service runs on this machine. Its weights may change without a new name; it may need no key."""
        return _on_this_machine(self.base_url)

    def key(self, request: Request[Any]) -> str | None:
        """Return the request's key in the ledger; None if answers are not stored."""
        if not self.kept:
            return None
        return key_of(self.provider, self.base_url, self.model, self.revision, request.text, request.sample)

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Return US dollars; None if the price or the number of tokens is unknown."""
        if input_tokens is None or output_tokens is None:
            return None
        return cost(self.base_url, self.model, input_tokens, output_tokens, self.price)

    def price_share(self, stage: str) -> float:
        """Return the share of the price that a stage pays: less than 1 if it sends its requests in batches."""
        return BATCH_PRICE if self.batch and stage in BATCH_STAGES else 1.0

    def scrub(self, text: str) -> str:
        """Return the text with the API key replaced by ``[key]``, in every form in which a library quotes it."""
        return redact(text, self.secret)


@frozen
class Request(Generic[T]):
    """One request to a model."""

    about: T
    """Any object of the plugin that identifies the answer. It is returned with the answer."""
    body: Mapping[str, Any]
    """The exact request as plain JSON values, without the API key. An equal body gets the stored answer."""
    sample: int = 0
    """Index of the answer, if several answers to the same body are wanted."""
    max_output_tokens: int = 256
    """The length limit in the body. Used for the budget and for tokens per minute."""

    @cached_property
    def text(self) -> str:
        """The body as JSON with sorted keys."""
        return json.dumps(self.body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def byte_count(self) -> int:
        """The length of the body in UTF-8. No tokenizer makes more tokens than this from it."""
        return len(self.text.encode("utf-8", "surrogatepass"))

    @property
    def input_tokens(self) -> int:
        """A cautious estimate of the tokens in the body: a token rarely has fewer than three bytes of UTF-8."""
        return self.byte_count // 3 + 1


@frozen
class Reply:
    """The reply of a service."""

    text: str
    """The text of the reply."""
    outcome: Outcome = Outcome.ANSWERED
    """Whether the reply is complete and usable."""
    detail: str = ""
    """The reason, if the outcome is not ``ANSWERED``."""
    input_tokens: int | None = None
    """Number of tokens of the request; None if the service does not report it."""
    output_tokens: int | None = None
    """Number of tokens of the reply; None if the service does not report it."""
    extra: Mapping[str, Any] = field(factory=dict)
    """Plain JSON values that are stored with the answer, such as log-probabilities."""


@frozen
class Answer(Generic[T]):
    """A reply with the object of its request, its source and its cost."""

    about: T
    reply: Reply
    from_ledger: bool = False
    """Whether the answer was in the ledger, so that no request was sent."""
    attempts: int = 0
    cost: float | None = None
    """US dollars for this call: 0 if the answer was in the ledger, None if the price is unknown."""


Ask = Callable[[Mapping[str, Any], float], Reply]
"""A plugin's blocking call of its SDK: (body, time-out in seconds) -> reply. The SDK's retries must be disabled."""


def _on_this_machine(base_url: str) -> bool:
    host = (urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or "").rstrip(".")
    if host in ("localhost", socket.gethostname().lower()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
