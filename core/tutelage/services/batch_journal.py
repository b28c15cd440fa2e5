"""The batches that a service has not answered yet: the tables ``batches`` and ``batch_requests`` of the ledger.

A batch is recorded before it is created at the service. Its name is stored by the service, too, so that a process that
continues after a kill finds it there. Its answers are stored, and it is deleted here, in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tutelage.services.booking import encodable
from tutelage.services.ledger import Entry, Ledger, insert, now
from tutelage.services.requests import Endpoint, Request


@frozen
class PendingBatch:
    """A batch whose answers are not stored yet."""

    name: str
    id: str | None
    """The service's id; None if it is not known whether the service has created the batch."""
    max_cost: float
    """US dollars at most; 0 if the price is unknown."""
    run: str
    stage: str
    asked_at: str = field(factory=now)
    """UTC, ISO 8601."""

    @property
    def age_hours(self) -> float:
        """Hours since the batch was recorded."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.asked_at)).total_seconds() / 3600


@frozen
class BatchJournal:
    """The batches of one endpoint in a ledger. Several processes may use it at the same time."""

    ledger: Ledger
    endpoint: Endpoint

    @property
    def lock_path(self) -> Path:
        """The file that a process locks while it submits batches."""
        return self.ledger.path.with_name(f"{self.ledger.path.name}.batches.lock")

    def pending(self) -> dict[str, PendingBatch]:
        """Return the batch of each request that a service has not answered yet, by the request's key."""
        condition = "provider = ? AND base_url = ? AND model = ? AND revision = ?"
        with self.ledger.transaction() as connection:
            rows = connection.execute(
                f"SELECT name, id, max_cost, run, stage, asked_at FROM batches WHERE {condition}", self._columns
            ).fetchall()
            batches = {row[0]: PendingBatch(*row) for row in rows}
            keys = connection.execute("SELECT key, batch FROM batch_requests").fetchall()
        return {key: batches[name] for key, name in keys if name in batches}

    def add(self, batch: PendingBatch, requests: Mapping[str, Request[Any]]) -> None:
        """Record a batch with its requests by key."""
        rows = [
            (key, batch.name, encodable(one.text), one.sample, one.max_output_tokens) for key, one in requests.items()
        ]
        values = (batch.name, batch.id, *self._columns, batch.max_cost, batch.asked_at, batch.run, batch.stage)
        with self.ledger.transaction() as connection:
            connection.execute(f"INSERT INTO batches VALUES ({', '.join('?' * len(values))})", values)
            connection.executemany("INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?)", rows)

    def created(self, name: str, id: str) -> None:
        """Record the service's id of a batch."""
        with self.ledger.transaction() as connection:
            connection.execute("UPDATE batches SET id = ? WHERE name = ?", (id, name))

    def requests(self, name: str) -> dict[str, Request[None]]:
        """Return the requests of a batch by key."""
        query = "SELECT key, request, sample, max_output_tokens FROM batch_requests WHERE batch = ?"
        with self.ledger.transaction() as connection:
            rows = connection.execute(query, (name,)).fetchall()
        return {key: Request(None, json.loads(text), sample, most) for key, text, sample, most in rows}

    def settle(self, name: str, entries: Sequence[Entry] = ()) -> bool:
        """Store the answers of a batch and delete the batch here, in one transaction.

        Returns false, and stores nothing, if another process has done it before.
        """
        with self.ledger.transaction() as connection:
            is_first = connection.execute("DELETE FROM batches WHERE name = ?", (name,)).rowcount > 0
            connection.execute("DELETE FROM batch_requests WHERE batch = ?", (name,))
            if is_first:
                insert(connection, entries)
        return is_first

    @property
    def _columns(self) -> tuple[str, str, str, str]:
        called = self.endpoint
        return called.provider, called.base_url, called.model, called.revision
