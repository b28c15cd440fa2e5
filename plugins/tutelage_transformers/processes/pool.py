"""The kept worker processes, one per device: they are started once and do all work of a run that devices share.

Sampling, judging and training all use them, so that torch and transformers are imported once per run, and all processes
load a model at the same time. A request is sent through a pipe, as a JSON line, and its results come back through
another, as do the warnings that the process logs meanwhile: they are logged again here. A process ends when its pipe of
requests is closed, so none outlives this process. If one fails or dies, all are ended, and new ones are started when
they are next needed.
"""

from __future__ import annotations

import atexit
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, RLock, Thread
from typing import Any

from tutelage.child_processes import python_command
from tutelage.errors import StageError, TutelageError
from tutelage.files.jsonl import converter, dump
from tutelage_transformers.processes.child import environment, last_lines, own_session
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.processes.warned import log_again

WORKER = "tutelage_transformers.processes.serving"
_POLL_SECONDS = 0.1
_CAUSE_SECONDS = 2.0
"""Time to wait for the last results and the errors of the other processes, once one has failed."""


def _never() -> bool:
    return False


class WorkerPool:
    """Worker processes, one per device."""

    def __init__(self, devices: Sequence[str], worker: str = WORKER) -> None:
        """Start the processes. They are not waited for: a request is read once a process has imported its libraries.

        ``worker`` is the module that each runs.
        """
        self.devices = tuple(devices)
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._lock, self._raising = RLock(), Lock()
        self._inboxes: dict[int, SimpleQueue[tuple[_Worker, Any]]] = {}
        """(process, message) as they arrive, for each request that is waited for, by its number."""
        self._failed: dict[_Worker, Any] = {}
        """The last message of each process that failed; None if it died without one."""
        self._warnings: set[tuple[int, str, str]] = set()
        """Request, logger and text of each warning that was logged. Processes of a request may send the same one."""
        self._raised: TutelageError | None = None
        self._request = 0
        """Number of the last request."""
        self._workers = [_Worker(number, device, worker, self._receive) for number, device in enumerate(devices)]

    @property
    def is_open(self) -> bool:
        """Whether the processes run. One that has died is noticed by the next request."""
        return bool(self._workers)

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes, in the order of the devices."""
        return [worker.process_id for worker in self._workers]

    @property
    def folder(self) -> Path:
        """A folder for files that the processes share. It is made when it is first used, and deleted at their end.

        Raises ``StageError`` if they have ended: nothing would delete a new folder.
        """
        with self._lock:
            if not self.is_open:
                raise StageError(f"the processes that work on {', '.join(self.devices)} have ended; try again")
            if self._files is None:
                self._files = tempfile.TemporaryDirectory(prefix="tutelage-processes-")
            return Path(self._files.name)

    def post(self, function: str, arguments: Mapping[int, Any]) -> None:
        """Send a request and do not wait for it; its results are ignored, and its error is raised by the next ``run``.

        ``function`` is ``MODULE:FUNCTION``, which each process calls with its own of the ``arguments`` and a
        ``serving.Job``. The arguments are by the number of the process.
        """
        self._send(function, arguments, None)

    def run(
        self,
        function: str,
        arguments: Mapping[int, Any],
        doing: str,
        cancelled: Callable[[], bool] = _never,
    ) -> Iterator[tuple[int, Any]]:
        """Send a request as ``post`` does, and yield (number of the process, result) as the results arrive.

        Several threads may each wait for a request of their own; a process works on one after the other. Once
        ``cancelled`` returns true, the processes are notified, and may end the request early. If the iterator is closed
        early, the request is cancelled, and results that still arrive are ignored. If a process fails, all are ended,
        and its error is raised if it is one of ``tutelage.errors``; else ``StageError``, which begins with ``doing``,
        as it does if a process dies.
        """
        inbox: SimpleQueue[tuple[_Worker, Any]] = SimpleQueue()
        request = self._send(function, arguments, inbox)
        busy = set(arguments)
        deadline = math.inf
        asked_to_stop = False
        try:
            while busy and time.monotonic() < deadline:
                if not asked_to_stop and cancelled():
                    asked_to_stop = True
                    self._cancel(busy, request)
                try:
                    worker, message = inbox.get(timeout=_POLL_SECONDS)
                except Empty:
                    continue
                if message is None or "failed" in message:
                    deadline = min(deadline, time.monotonic() + _CAUSE_SECONDS)
                    busy.discard(worker.number)
                elif "done" in message:
                    busy.remove(worker.number)
                else:
                    yield worker.number, message["value"]
            if deadline < math.inf:
                raise self._error(doing)
        finally:
            with self._lock:
                del self._inboxes[request]
            self._cancel(busy, request)

    def _send(self, function: str, arguments: Mapping[int, Any], inbox: SimpleQueue[tuple[_Worker, Any]] | None) -> int:
        """Send a request; returns its number. Messages about it are put into the ``inbox``."""
        with self._lock:
            self._request += 1
            if inbox is not None:
                self._inboxes[self._request] = inbox
                for failed in self._failed.items():
                    inbox.put(failed)
            for number, own in sorted(arguments.items()) if self.is_open else ():
                self._workers[number].send({"request": self._request, "function": function, "arguments": own})
            return self._request

    def _receive(self, worker: _Worker, message: Any) -> None:
        """Pass a message of a process, or None once it has ended, to the requests that it is about; log a warning."""
        with self._lock:
            if message is None or "failed" in message:
                self._failed.setdefault(worker, message)
                for inbox in self._inboxes.values():
                    inbox.put((worker, message))
            elif "warning" in message:
                warning = message["warning"]
                key = message["request"], warning["logger"], warning["text"]
                if key not in self._warnings:
                    self._warnings.add(key)
                    log_again(warning)
            elif inbox_of_request := self._inboxes.get(message["request"]):
                inbox_of_request.put((worker, message))

    def _cancel(self, numbers: set[int], request: int) -> None:
        with self._lock:
            for number in numbers if self.is_open else ():
                self._workers[number].send({"cancel": request})

    def close(self) -> None:
        """End the processes, and wait until they have ended and their memory is free."""
        self._end_all()

    def _end_all(self) -> dict[_Worker, list[str]]:
        """End the processes; returns the last lines of their logs."""
        with self._lock:
            workers, self._workers = self._workers, []
            files, self._files = self._files, None
        for worker in workers:
            worker.kill()
        logs = {worker: worker.end() for worker in workers}
        if files is not None:
            files.cleanup()
        return logs

    def _error(self, doing: str) -> TutelageError:
        """End all processes; returns one error for those that failed, given with their last messages.

        An error of ``tutelage.errors`` comes first, then the death of a process: other errors may be its consequence.
        """
        with self._raising:
            if self._raised is None:
                with self._lock:
                    failed = dict(self._failed)  # without the processes that are ended now
                self._raised = _one_error(failed, self._end_all(), doing)
            return self._raised


def _one_error(failed: Mapping[_Worker, Any], logs: Mapping[_Worker, list[str]], doing: str) -> TutelageError:
    causes = {one: converter().structure(message["failed"], Failure) for one, message in failed.items() if message}
    if plain := [failure for failure in causes.values() if failure.is_plain]:
        return min(plain, key=lambda failure: failure.seconds).error(doing)
    if died := [one for one in failed if one not in causes]:
        culprit, first = died[0], f"{doing}: the process that works on {died[0].device} died"
    else:
        culprit = min(causes, key=lambda one: causes[one].seconds)
        first = str(causes[culprit].error(f"{doing} on {culprit.device}"))
    return StageError("\n".join([f"{first}; the last lines of its log:", *logs.get(culprit, [])]))


class _Worker:
    """One process, seen from the pool."""

    def __init__(self, number: int, device: str, module: str, receive: Callable[[_Worker, Any], None]) -> None:
        self.number = number
        self.device = device
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end
        self._process = subprocess.Popen(
            python_command(module, device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            text=True,
            encoding="utf-8",
            **own_session(),
        )
        self._listener = Thread(target=self._listen, args=(receive,), daemon=True)
        self._listener.start()

    @property
    def process_id(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message. That a process has ended is noticed by the thread that reads its messages, not here."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(dump(message) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End the process if it still runs, and do not wait for its end."""
        self._process.kill()

    def end(self) -> list[str]:
        """Wait for the end of the process, which was killed or has ended; returns the last lines of its log."""
        self._listener.join()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a message that the process did not read any more
            self._process.stdin.close()
        with self._log, self._process:  # closes the pipes, and waits
            return last_lines(self._log)

    def _listen(self, receive: Callable[[_Worker, Any], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                receive(self, json.loads(line))
        receive(self, None)


_pools: list[WorkerPool] = []
"""The kept processes: at most one pool."""
_starting = Lock()


def kept(devices: Sequence[str]) -> WorkerPool:
    """Return the kept processes of these devices. They are started if there are none; those of others are ended."""
    with _starting:
        if not (pool := current()) or pool.devices != tuple(devices):
            end_all()
            pool = WorkerPool(devices)
            _pools.append(pool)
        return pool


def current() -> WorkerPool | None:
    """Return the kept processes, or None if none run."""
    return next((pool for pool in _pools if pool.is_open), None)


@atexit.register
def end_all() -> None:
    """End the kept processes."""
    while _pools:
        _pools.pop().close()
