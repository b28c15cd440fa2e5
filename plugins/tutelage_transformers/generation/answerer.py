"""A child process of a ``pool``: reads requests from stdin and writes completions to stdout, both as JSON lines.

The first line names the model and its settings. Each further line is a request, or cancels the current request.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from tutelage.errors import TutelageError
from tutelage.files.jsonl import converter, dump
from tutelage.records import Model, Sampling
from tutelage_transformers.generation.dispatch import complete
from tutelage_transformers.models import loading
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.processes.child import ignore_stop_signals
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.settings import TransformersSettings


class Inbox:
    """The requests that arrive. If their pipe is closed, the parent has ended, and this process ends at once."""

    def __init__(self, lines: IO[str]) -> None:
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self.cancelled = 0
        """Number of the last request that is cancelled."""
        Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled = message["cancel"]
            else:
                self.messages.put(message)
        os._exit(0)


def main() -> None:
    """Load the model, and answer requests until the parent process ends."""
    ignore_stop_signals()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like a message

        def send(message: Any) -> None:
            out.write(dump(message) + "\n")
            out.flush()

        inbox = Inbox(sys.stdin)
        try:
            _serve(inbox, send)
        except TutelageError as error:
            send({"failed": Failure.of(error)})


def _serve(inbox: Inbox, send: Callable[[Any], None]) -> None:
    first = inbox.messages.get()
    settings = converter().structure(first["settings"], TransformersSettings)
    _set_default_device(settings.device)
    loaded = loading.read(converter().structure(first["model"], Model), settings)
    while True:
        request = inbox.messages.get()
        _answer(loaded, settings, request, inbox, send)
        send({"request": request["request"], "completions": None})


def _answer(
    loaded: LoadedModel, settings: TransformersSettings, request: Any, inbox: Inbox, send: Callable[[Any], None]
) -> None:
    sampling = converter().structure(request["sampling"], Sampling)
    for completions in complete(loaded, settings, request["conversations"], request["n"], sampling):
        if inbox.cancelled >= request["request"]:
            return
        send({"request": request["request"], "completions": completions})


def _set_default_device(device: str) -> None:
    """Make this process's own GPU the default for code that names none."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(device)


if __name__ == "__main__":
    main()
