"""Every paid answer with its tokens and its cost, in one SQLite file per user that all runs share.

Rows are only added, except by ``prune``: an answer is stored before it is used, and a second answer to the same request
(a refusal that was requested again) is a second row. The table ``answers`` can be read with datasette or the sqlite3
shell; ``batches`` are requests that a service has not answered yet (``batch_journal``). Several threads and processes
may use the file at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from tutelage.errors import InputError, StageError, TutelageError, nearest
from tutelage.files.disk_errors import disk_problem
from tutelage.records import Outcome

SCHEMA = 1
_BUSY_SECONDS = 60.0
"""Maximum wait for a lock of another process that writes."""

_ELSEWHERE = "or set TUTELAGE_LEDGER to another file"
_LOCKED = "another program keeps the file locked; wait until it has ended, or close it"
_DAMAGED = (
    "the file is damaged or no ledger: move it away, " + _ELSEWHERE + "; `sqlite3 {path} .recover` may save its answers"
)
_NOT_WRITABLE = "make the file and its folder writable, " + _ELSEWHERE
_ADVICE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "free space on this disk",
    sqlite3.SQLITE_IOERR: "the disk is full or reports an error; free space and check it",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
}
"""What to do, by the primary result code of SQLite."""

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
    outcome TEXT NOT NULL,       -- answered, cut, refused or unparsed
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
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY,       -- the service stores it with the batch
    id TEXT,                     -- the service's id; NULL until it is known that the batch was created
    provider TEXT NOT NULL,
    base_url TEXT NOT NULL,
    model TEXT NOT NULL,
    revision TEXT NOT NULL,
    max_cost REAL NOT NULL,      -- US dollars; 0 where the price is unknown
    asked_at TEXT NOT NULL,
    run TEXT NOT NULL,
    stage TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_requests (
    key TEXT PRIMARY KEY,        -- a request is in one batch at most
    batch TEXT NOT NULL,
    request TEXT NOT NULL,
    sample INTEGER NOT NULL,
    max_output_tokens INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_requests_batch ON batch_requests (batch);
"""


def now() -> str:
    """Return the current time, UTC, in ISO 8601."""
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
    asked_at: str = field(factory=now)
    run: str = ""
    stage: str = ""


_COLUMNS = tuple(column.name for column in attrs.fields(Entry))
_INSERT = f"INSERT INTO answers ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_WITHOUT_ANSWER = "('refused', 'unparsed')"
"""Outcomes of replies that are requested again with ``--ask-refused-again``."""
GROUPS = ("run", "stage", "model", "provider", "outcome")


@frozen
class Spend:
    """The cost of a group of answers."""

    group: tuple[str, ...]
    """The values of the columns of ``by``, in their order."""
    answers: int
    input_tokens: int
    output_tokens: int
    cost: float
    """US dollars, over the answers whose price is known."""
    unknown: int
    """Answers whose price is unknown."""


def default_path() -> Path:
    """Return ``$TUTELAGE_LEDGER``, or ``tutelage/ledger.db`` in the user's data folder (XDG base directories)."""
    if named := os.environ.get("TUTELAGE_LEDGER"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "tutelage" / "ledger.db"


def key_of(provider: str, base_url: str, model: str, revision: str, request: str, sample: int) -> str:
    """Return the key of a request: equal for equal requests, on every machine."""
    parts = [provider, base_url.rstrip("/"), model, revision, request, sample]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Ledger:
    """An open ledger file. One object can be used by all threads of a process."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or create the file at ``path`` (default: ``default_path()``). Raises ``InputError`` if that fails."""
        self.path = path or default_path()
        self._pending: list[tuple[Entry, Future[None]]] = []
        self._queueing, self._writing, self._reading = threading.Lock(), threading.Lock(), threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._prepare()
            self._reader = self._connect()
        except sqlite3.Error as error:
            raise InputError(f"the ledger {self.path} can't be opened: {self._explained(error)}") from error
        except OSError as error:
            problem = disk_problem(self.path, error)
            raise InputError(
                f"the ledger {self.path} can't be opened: {problem}; or set TUTELAGE_LEDGER to another file"
            ) from error

    def find(self, key: str, refusals: bool = True) -> Entry | None:
        """Return the oldest answer with this key.

        Refusals and replies that could not be read are returned only if there is no other and ``refusals`` is set.
        Raises ``StageError`` if the file can't be read.
        """
        condition = "" if refusals else f"AND outcome NOT IN {_WITHOUT_ANSWER}"
        query = (
            f"SELECT {', '.join(_COLUMNS)} FROM answers WHERE key = ? {condition} "
            f"ORDER BY outcome IN {_WITHOUT_ANSWER}, id LIMIT 1"
        )
        with self._reading, self._readable(StageError):
            row = self._reader.execute(query, (key,)).fetchone()
        return Entry(*row) if row else None

    def store(self, entry: Entry) -> None:
        """Store an answer durably before returning. Raises ``StageError`` if it can't be stored.

        Answers that several threads store at the same time share one transaction, and thus one wait for the disk.
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
        except Exception as error:
            with suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            if len(batch) > 1 and _code(error) not in _ADVICE:  # a value that SQLite can't store: the others can be
                for one in batch:
                    self._write([one])
                return
            problem = StageError(
                f"an answer can't be stored in the ledger {self.path}: {self._explained(error)}; the step stops here, "
                "and the same command continues"
            )
            for _, written in batch:
                written.set_exception(problem)
        else:
            for _, written in batch:
                written.set_result(None)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction that is committed at the end. Raises ``StageError`` if that fails."""
        try:
            with self._writing:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        self._writer.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise StageError(f"the ledger {self.path} can't be changed: {self._explained(error)}") from error

    @contextmanager
    def _readable(self, kind: type[TutelageError]) -> Iterator[None]:
        """Raise an error of reading as ``kind``, with the file and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise kind(f"the ledger {self.path} can't be read: {self._explained(error)}") from error

    def _explained(self, error: Exception) -> str:
        """Return what an error means, and what to do."""
        advice = _ADVICE.get(_code(error))
        return f"{error}; {advice.format(path=self.path)}" if advice else str(error)

    def spent(self, run: str) -> float:
        """Return the cost of a run so far in US dollars, for the answers whose price is known."""
        return sum(line.cost for line in self.spend(by=("run",), run=run))

    def spend(
        self,
        by: Sequence[str] = ("run", "stage", "model"),
        run: str | None = None,
        stage: str | None = None,
        model: str | None = None,
    ) -> list[Spend]:
        """Return the cost of all answers, or of one run, stage or model, grouped by columns of ``GROUPS``.

        Raises ``InputError`` for an unknown column.
        """
        for name in by:
            if name not in GROUPS:
                raise InputError(f"the ledger can't be grouped by {name!r}{nearest(name, GROUPS)}")
        columns = ", ".join(by) or "''"
        condition, values = _where(run=run, stage=stage, model=model)
        query = (
            f"SELECT {columns}, COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0), "
            f"TOTAL(cost), COUNT(*) - COUNT(cost) FROM answers {condition} GROUP BY {columns} ORDER BY {columns}"
        )
        with self._reading, self._readable(InputError):
            rows = self._reader.execute(query, values).fetchall()
        return [Spend(tuple(row[:-5]) if by else (), *row[-5:]) for row in rows]

    def prune(self, before: datetime | None = None, run: str | None = None, model: str | None = None) -> int:
        """Delete the answers of a run, of a model, or requested before a time; return their number.

        Deleted answers have to be paid for again if they are needed, and their cost is no longer counted. Raises
        ``InputError`` without any condition, and ``StageError`` if the file can't be changed.
        """
        condition, values = _where(run=run, model=model)
        if before is not None:
            condition = f"{condition} AND asked_at < ?" if condition else "WHERE asked_at < ?"
            values.append(before.astimezone(UTC).isoformat(timespec="seconds"))
        if not condition:
            raise InputError(
                "choose the answers to delete from the ledger: those of a run, of a model, or before a date"
            )
        try:
            with self._writing:
                count = self._writer.execute(f"DELETE FROM answers {condition}", values).rowcount
                self._writer.execute("VACUUM")
        except sqlite3.Error as error:
            raise StageError(f"the ledger {self.path} can't be pruned now: {self._explained(error)}") from error
        return count

    def export(self, run: str | None = None, model: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield every answer as plain values, oldest first. The file is read lazily.

        Raises ``InputError`` if the file can't be read.
        """
        condition, values = _where(run=run, model=model)
        with self._readable(InputError), closing(self._connect()) as connection:
            for row in connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM answers {condition} ORDER BY id", values):
                yield dict(zip(_COLUMNS, row, strict=True))

    def close(self) -> None:
        """Close the file. SQLite then merges the write-ahead log into it."""
        self._reader.close()
        self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute(
            "PRAGMA synchronous = FULL"
        )  # in WAL mode, NORMAL may lose the last answers in a power failure
        return connection

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA journal_mode = WAL")
        self.path.chmod(0o600)
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise InputError(
                f"the ledger {self.path} was written by a newer version of tutelage (schema {version}); update tutelage"
            )
        self._writer.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {SCHEMA}; COMMIT;")


def insert(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Add answers within a transaction."""
    connection.executemany(_INSERT, [attrs.astuple(entry) for entry in entries])


def _code(error: Exception) -> int:
    """Return the primary result code of SQLite; 0 if the error is not of SQLite but of a value that it can't take."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _where(**conditions: str | None) -> tuple[str, list[str]]:
    chosen = {name: value for name, value in conditions.items() if value is not None}
    clause = " AND ".join(f"{name} = ?" for name in chosen)
    return (f"WHERE {clause}" if clause else ""), list(chosen.values())
