"""A kept worker process: reads requests from stdin, one after the other, and writes results to stdout, as JSON lines.

A request names a function, as ``MODULE:FUNCTION``, and its arguments. The process runs until its stdin is closed, which
happens at the latest when its parent ends. Torch and transformers are imported at the start, before the first request.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import IO, Any

from attrs import frozen

from tutelage.files.jsonl import dump
from tutelage_transformers.models.garbage_collection import without_garbage_collection
from tutelage_transformers.processes.child import ignore_stop_signals
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.processes.warned import sent_by


@frozen
class Job:
    """A request that this process works on, given to the function that it names."""

    number: int
    """Counts up from 1."""
    inbox: Inbox
    write: Callable[[Any], None]
    """Sends one message to the parent."""

    def send(self, value: Any) -> None:
        """Send a result, which may be any value that ``tutelage.files.jsonl`` can write."""
        self.write({"request": self.number, "value": value})

    def warn(self, warning: Any) -> None:
        """Send a warning, as ``warned.sent_by`` gives it."""
        self.write({"request": self.number, "warning": warning})

    def cancelled(self) -> bool:
        """Return whether the parent has cancelled this request."""
        return self.number in self.inbox.cancelled


class Inbox:
    """The messages that arrive. If their pipe is closed, the parent has ended, and this process ends at once."""

    def __init__(self, lines: IO[str]) -> None:
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self.cancelled: set[int] = set()
        """Numbers of the requests that are cancelled."""
        Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled.add(message["cancel"])
            else:
                self.messages.put(message)
        os._exit(0)


def main(device: str) -> None:
    """Work on requests until the parent process ends.

    An error ends the process: the parent gets its ``Failure``, and the log has its traceback.
    """
    ignore_stop_signals()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like a message

        writing = Lock()  # any thread may log a warning

        def write(message: Any) -> None:
            with writing:
                out.write(dump(message) + "\n")
                out.flush()

        inbox = Inbox(sys.stdin)
        _prepare(device)
        while True:
            message = inbox.messages.get()
            job = Job(message["request"], inbox, write)
            try:
                with sent_by(job.warn):
                    _function(message["function"])(message["arguments"], job)
            except Exception as error:
                traceback.print_exc()
                write({"request": job.number, "failed": Failure.of(error)})
                os._exit(1)  # at once: other threads may wait for processes that are ended, too
            write({"request": job.number, "done": True})


def _prepare(device: str) -> None:
    """Import what every request needs, and make this process's own GPU the default for code that names none."""
    with without_garbage_collection():
        import torch
        from transformers.models.auto import modeling_auto, tokenization_auto  # noqa: F401

    if device.startswith("cuda"):
        torch.cuda.set_device(device)


def _function(name: str) -> Callable[[Any, Job], None]:
    module, _, function = name.partition(":")
    found: Callable[[Any, Job], None] = getattr(importlib.import_module(module), function)
    return found


if __name__ == "__main__":
    main(sys.argv[1])
