"""What goes into a call and what comes out of it."""

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

T = TypeVar("T")

_SHORTEST_SECRET = 8
"""Characters. Shorter 'keys' are the dummies of local servers (``EMPTY``, ``ollama``): ordinary words in answers."""


@frozen
class Limits:
    """How hard a service may be asked, and how patiently. Meant to be a field of a plugin's settings class."""

    in_flight: int = field(
        default=8,
        validator=validators.ge(1),
        metadata={"help": "most requests at once; fewer while the service says that it is too much"},
    )
    requests_per_minute: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata={"help": "the account's limit, where it has one"},
    )
    tokens_per_minute: float | None = field(
        default=None,
        validator=validators.optional(validators.gt(0)),
        metadata={"help": "the account's limit for tokens in and out, where it has one"},
    )
    attempts: int = field(
        default=10, validator=validators.ge(1), metadata={"help": "how often a request is tried in all"}
    )
    attempt_seconds: float = field(
        default=120.0, validator=validators.gt(0), metadata={"help": "time-out of one attempt"}
    )
    total_seconds: float = field(
        default=600.0, validator=validators.gt(0), metadata={"help": "time-out of a request with all its attempts"}
    )
    first_wait: float = field(
        default=1.0,
        validator=validators.gt(0),
        metadata={"help": "seconds before the second attempt, doubled for each further one, with jitter"},
    )
    failures_in_a_row: int = field(
        default=50,
        validator=validators.ge(1),
        metadata={"help": "the step stops when so many requests fail one after the other"},
    )


@frozen
class Endpoint:
    """Which model of which service is asked."""

    provider: str
    """The plugin's name, or what else names the protocol."""
    base_url: str
    model: str
    revision: str = ""
    """Which weights: needed to keep the answers of a server on this machine, where they may change under one name."""
    price: Price | None = None
    """The user's own price; None is the price table's."""
    secret: str = field(default="", repr=False, eq=False)
    """The key. It is struck from every text that comes back, an answer or an error."""

    @property
    def kept(self) -> bool:
        """Whether its answers are kept in the ledger and served from there."""
        return bool(self.revision) or not self.on_this_machine

    @property
    def on_this_machine(self) -> bool:
        """Whether the service runs here: its weights may change under one name, and it may need no key."""
        return _on_this_machine(self.base_url)

    def key(self, request: Request[Any]) -> str | None:
        """The request's name in the ledger, None where answers are not kept."""
        if not self.kept:
            return None
        return key_of(self.provider, self.base_url, self.model, self.revision, request.text, request.sample)

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """US dollars, None where the price or the number of tokens is unknown."""
        if input_tokens is None or output_tokens is None:
            return None
        return cost(self.base_url, self.model, input_tokens, output_tokens, self.price)

    def scrub(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self.secret, "[key]") if len(self.secret) >= _SHORTEST_SECRET else text


@frozen
class Request(Generic[T]):
    """One question to a model."""

    about: T
    """The plugin's own: what the answer is for. It comes back with the answer."""
    body: Mapping[str, Any]
    """The exact request in plain JSON values, without any key: an equal body gets the kept answer."""
    sample: int = 0
    """Which of several answers to the same body this is to be."""
    max_output_tokens: int = 256
    """The answer's length limit as the body says it: what budget and tokens per minute reckon with."""

    @cached_property
    def text(self) -> str:
        """The body as canonical JSON."""
        return json.dumps(self.body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @property
    def input_tokens(self) -> int:
        """A cautious guess before the service has counted: a token is rarely shorter than three characters."""
        return len(self.text) // 3 + 1


@frozen
class Reply:
    """What a service answered."""

    text: str
    outcome: Outcome = Outcome.ANSWERED
    detail: str = ""
    """Why, where the outcome is not ``ANSWERED``."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    extra: Mapping[str, Any] = field(factory=dict)
    """Plain JSON values that the plugin wants kept with the answer, such as log-probabilities."""


@frozen
class Answer(Generic[T]):
    """A reply, with what it is for and what it took."""

    about: T
    reply: Reply
    from_ledger: bool = False
    """True where nothing was asked: the answer was there."""
    attempts: int = 0
    cost: float | None = None
    """US dollars that this answer cost now: 0 from the ledger, None where unknown."""


Ask = Callable[[Mapping[str, Any], float], Reply]
"""A plugin's blocking call of its SDK: (body, time-out in seconds) -> reply. The SDK's own retries must be off."""


def _on_this_machine(base_url: str) -> bool:
    host = (urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or "").rstrip(".")
    if host in ("localhost", socket.gethostname().lower()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
