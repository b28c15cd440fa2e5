"""What a plugin implements for the batch endpoint of its service, and the settings of batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from attrs import field, frozen, validators

from tutelage.services.problems import CallError
from tutelage.services.requests import Reply


@frozen
class BatchLimits:
    """Limits of batches. Meant as a field of a plugin's settings class."""

    requests: int = field(default=10_000, validator=validators.ge(1))
    """Maximum number of requests in a batch. Lower it if the service limits the number of enqueued tokens."""
    poll_seconds: float = field(default=60.0, validator=validators.gt(0))
    """Seconds between two requests for the state of the batches."""


@frozen
class BatchStatus:
    """The state of a batch at the service."""

    ended: bool
    done: int = 0
    """Number of requests that are answered."""
    problem: CallError | None = None
    """Why the whole batch was rejected, so that no request was answered. ``Transient`` if the service's queue is
    full."""
    cancelled: bool = False
    """Whether a user has cancelled the batch at the service."""


class BatchService(Protocol):
    """The batch endpoint of a service. All methods raise ``CallError``."""

    @property
    def limits(self) -> BatchLimits:
        """The user's limits."""

    @property
    def most_requests(self) -> int:
        """The service's maximum number of requests in a batch."""

    @property
    def most_bytes(self) -> int:
        """The service's maximum size of a batch."""

    def submit(self, name: str, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Create a batch of bodies by key, with ``name`` in its metadata, and return its id."""

    def find(self, name: str) -> str | None:
        """Return the id of the batch with ``name`` in its metadata; None if the service has none."""

    def poll(self, id: str) -> BatchStatus | None:
        """Return the state of a batch; None if the service does not know it."""

    def results(self, id: str) -> Iterator[tuple[str, Reply | CallError]]:
        """Yield the key and the reply or problem of each request of a batch that has ended."""
