"""Every paid answer, its tokens and its cost, in one SQLite file for the user, shared by all runs.

The file only grows: an answer is stored before it is used, a second answer to the same question (a refusal asked
again by request) is a second row, and what was spent stays spent. The plain table ``answers`` reads well in datasette
or the sqlite3 shell. Several threads and processes may use it at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from tutelage.errors import InputError, StageError, nearest
from tutelage.records import Outcome

SCHEMA = 1
_BUSY_SECONDS = 60.0
"""How long to wait for another process that writes."""

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    key TEXT,                    -- names the question; NULL where the answer must not be used again
    provider TEXT NOT NULL,
    base_url TEXT NOT NULL,
    model TEXT NOT NULL,
    revision TEXT NOT NULL,
    request TEXT NOT NULL,       -- exact, as JSON
    sample INTEGER NOT NULL,
    outcome TEXT NOT NULL,       -- answered, cut or refused
    text TEXT NOT NULL,
    detail TEXT NOT NULL,
    extra TEXT NOT NULL,         -- JSON: what the plugin keeps beside the text
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost REAL,                   -- US dollars; NULL where the price is unknown
    seconds REAL NOT NULL,
    attempts INTEGER NOT NULL,
    asked_at TEXT NOT NULL,      -- UTC, ISO 8601
    run TEXT NOT NULL,
    stage TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_key ON answers (key);
CREATE INDEX IF NOT EXISTS answers_run ON answers (run);
"""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@frozen
class Entry:
    """One row of the ledger."""

    key: str | None
    provider: str
    base_url: str
    model: str
    revision: str
    request: str
    sample: int
    outcome: Outcome = field(converter=Outcome)
    text: str = ""
    detail: str = ""
    extra: str = "{}"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    seconds: float = 0.0
    attempts: int = 1
    asked_at: str = field(factory=_now)
    run: str = ""
    stage: str = ""


_COLUMNS = tuple(column.name for column in attrs.fields(Entry))
_INSERT = f"INSERT INTO answers ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
GROUPS = ("run", "stage", "model", "provider", "outcome")


@frozen
class Spend:
    """What a group of answers cost."""

    group: tuple[str, ...]
    """The values of the columns that were grouped by, in their order."""
    answers: int
    input_tokens: int
    output_tokens: int
    cost: float
    """US dollars, over the answers whose price is known."""
    unknown: int
    """Answers whose price is unknown."""


def default_path() -> Path:
    """``$TUTELAGE_LEDGER``, else ``tutelage/ledger.db`` in the user's data folder (XDG base directories)."""
    if named := os.environ.get("TUTELAGE_LEDGER"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "tutelage" / "ledger.db"


def key_of(provider: str, base_url: str, model: str, revision: str, request: str, sample: int) -> str:
    """The name of one question: equal for equal questions on every machine."""
    parts = [provider, base_url.rstrip("/"), model, revision, request, sample]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Ledger:
    """The file, opened. One object serves all threads of a process."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the file at ``path`` (default: the user's). Raises ``InputError`` where that can't be done."""
        self.path = path or default_path()
        self._pending: list[tuple[Entry, Future[None]]] = []
        self._queueing, self._writing, self._reading = threading.Lock(), threading.Lock(), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._prepare()
            self._reader = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"the ledger {self.path} can't be opened: {error}; name another file in TUTELAGE_LEDGER, "
                "or move this one away"
            ) from error

    def find(self, key: str, refusals: bool = True) -> Entry | None:
        """The kept answer to a question: the first that is no refusal, else, where wanted, the first refusal."""
        wanted = "" if refusals else "AND outcome != 'refused'"
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM answers WHERE key = ? {wanted} ORDER BY outcome = 'refused', id LIMIT 1"
        )
        with self._reading:
            row = self._reader.execute(query, (key,)).fetchone()
        return Entry(*row) if row else None

    def store(self, entry: Entry) -> None:
        """Put an answer on the disk; when this returns, it is there. Raises ``StageError`` where it can't be.

        What several threads store at one moment goes into one transaction: the disk is waited for once.
        """
        written: Future[None] = Future()
        with self._queueing:
            self._pending.append((entry, written))
        with self._writing:
            with self._queueing:
                batch, self._pending = self._pending, []
            if batch:
                self._write(batch)
        written.result()

    def _write(self, batch: Sequence[tuple[Entry, Future[None]]]) -> None:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany(_INSERT, [attrs.astuple(entry) for entry, _ in batch])
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            problem = StageError(f"an answer can't be stored in the ledger {self.path}: {error}; the step stops here")
            for _, written in batch:
                written.set_exception(problem)
        else:
            for _, written in batch:
                written.set_result(None)

    def spent(self, run: str) -> float:
        """US dollars that a run has cost so far, as far as prices are known."""
        return sum(line.cost for line in self.spend(by=("run",), run=run))

    def spend(
        self,
        by: Sequence[str] = ("run", "stage", "model"),
        run: str | None = None,
        stage: str | None = None,
        model: str | None = None,
    ) -> list[Spend]:
        """What was spent, grouped by any of run, stage, model, provider, outcome, of one run, stage or model or all."""
        for name in by:
            if name not in GROUPS:
                raise InputError(f"the ledger has no group {name!r}{nearest(name, GROUPS)}")
        columns = ", ".join(by) or "''"
        condition, values = _where(run=run, stage=stage, model=model)
        query = (
            f"SELECT {columns}, COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0), "
            f"TOTAL(cost), COUNT(*) - COUNT(cost) FROM answers {condition} GROUP BY {columns} ORDER BY {columns}"
        )
        with self._reading:
            rows = self._reader.execute(query, values).fetchall()
        return [Spend(tuple(row[:-5]) if by else (), *row[-5:]) for row in rows]

    def prune(self, before: datetime | None = None, run: str | None = None, model: str | None = None) -> int:
        """Forget the answers of a run, of a model, or asked before a moment; how many there were.

        They would be paid for again, and their cost is forgotten too. Without any condition it is an ``InputError``.
        """
        condition, values = _where(run=run, model=model)
        if before is not None:
            condition = f"{condition} AND asked_at < ?" if condition else "WHERE asked_at < ?"
            values.append(before.astimezone(UTC).isoformat(timespec="seconds"))
        if not condition:
            raise InputError("say which answers the ledger is to forget: those of a run, of a model, or before a day")
        try:
            with self._writing:
                count = self._writer.execute(f"DELETE FROM answers {condition}", values).rowcount
                self._writer.execute("VACUUM")
        except sqlite3.Error as error:
            raise StageError(f"the ledger {self.path} can't be pruned now: {error}") from error
        return count

    def export(self, run: str | None = None, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Every answer as plain values, oldest first, read as they are asked for."""
        condition, values = _where(run=run, model=model)
        with closing(self._connect()) as connection:
            for row in connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM answers {condition} ORDER BY id", values):
                yield dict(zip(_COLUMNS, row, strict=True))

    def close(self) -> None:
        """Let go of the file; the write-ahead log is folded into it."""
        self._reader.close()
        self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode NORMAL may lose the last answers to a power cut
        return connection

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self.path.chmod(0o600)
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise InputError(
                f"the ledger {self.path} was written by a newer tutelage (schema {version}); update this one"
            )
        self._writer.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {SCHEMA}; COMMIT;")


def _where(**conditions: str | None) -> tuple[str, list[str]]:
    chosen = {name: value for name, value in conditions.items() if value is not None}
    clause = " AND ".join(f"{name} = ?" for name in chosen)
    return (f"WHERE {clause}" if clause else ""), list(chosen.values())
