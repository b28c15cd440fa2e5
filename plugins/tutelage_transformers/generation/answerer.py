"""An answering process of a ``pool``, run as ``-m``: questions on stdin, replies on stdout.

The first line says which model, and how it is loaded. Each further line asks, or says that an answer is wanted no more.
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
from tutelage_transformers.generation.asking import ask
from tutelage_transformers.models import loading
from tutelage_transformers.models.loading import Loaded
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.settings import TransformersSettings


class Inbox:
    """What is asked. Where the pipe ends, the process that asks is gone, and this one goes with it, at once."""

    def __init__(self, lines: IO[str]) -> None:
        self.asked: SimpleQueue[Any] = SimpleQueue()
        self.stopped = 0
        """The last question that needs no answer any more."""
        Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            message = json.loads(line)
            if "stop" in message:
                self.stopped = message["stop"]
            else:
                self.asked.put(message)
        os._exit(0)


def main() -> None:
    """Load the model, and answer as long as somebody asks."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no reply

        def say(message: Any) -> None:
            out.write(dump(message) + "\n")
            out.flush()

        inbox = Inbox(sys.stdin)
        try:
            _answer(inbox, say)
        except TutelageError as error:
            say({"failed": Failure.of(error)})


def _answer(inbox: Inbox, say: Callable[[Any], None]) -> None:
    first = inbox.asked.get()
    settings = converter().structure(first["settings"], TransformersSettings)
    _use(settings.device)
    loaded = loading.read(converter().structure(first["model"], Model), settings)
    while True:
        asked = inbox.asked.get()
        _reply(loaded, settings, asked, inbox, say)
        say({"ask": asked["ask"], "replies": None})


def _reply(
    loaded: Loaded, settings: TransformersSettings, asked: Any, inbox: Inbox, say: Callable[[Any], None]
) -> None:
    sampling = converter().structure(asked["sampling"], Sampling)
    for replies in ask(loaded, settings, asked["questions"], asked["n"], sampling):
        if inbox.stopped >= asked["ask"]:
            return
        say({"ask": asked["ask"], "replies": replies})


def _use(device: str) -> None:
    """Let everything that names no GPU use this process's own."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(device)


if __name__ == "__main__":
    main()
