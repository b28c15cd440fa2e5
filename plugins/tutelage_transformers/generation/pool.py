"""A pool of child processes that generate, one per device: each loads the model once and runs until the pool is closed.

They receive requests through a pipe, as JSON lines, and send completions through another. Which prompts a process gets
depends on the prompts alone, never on which process is faster: another composition of a batch changes logits in the
last digits, and a repeated run must give the same completions. No child outlives this process: it ends when its pipe
of requests is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from attrs import evolve

from tutelage.errors import StageError
from tutelage.files.jsonl import converter, dump
from tutelage.records import Model, Sampling
from tutelage_transformers.generation.engine import Completion
from tutelage_transformers.models.chat import Conversation
from tutelage_transformers.processes.child import environment, last_lines, own_session
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.settings import TransformersSettings

ANSWERER = "tutelage_transformers.generation.answerer"


def split_evenly(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """Return the indices of each process's conversations, whose ``lengths`` are given.

    Conversations are dealt out by length, alternating between forward and backward order, so that all processes have
    about the same amount of work.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    shares: list[list[int]] = [[] for _ in range(processes)]
    for turn, index in enumerate(order):
        round, process = divmod(turn, processes)
        shares[process if round % 2 == 0 else processes - 1 - process].append(index)
    return shares


class DevicePool:
    """The generating processes of one model. Each is started when it first has a conversation to complete."""

    def __init__(self, model: Model, settings: Sequence[TransformersSettings]) -> None:
        self.model = model
        self.settings = settings
        """The settings of each process, with its device."""
        self._messages: SimpleQueue[tuple[_Child, Any]] = SimpleQueue()
        """(process, message), as they arrive; the message is None once the process has ended."""
        self._children: dict[int, _Child] = {}
        self._request = 0
        """Number of the last request."""

    def complete(self, conversations: Sequence[Conversation], n: int, sampling: Sampling) -> Iterator[list[Completion]]:
        """Complete each of the conversations n times, each process its share.

        Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` if a process dies. If the
        iterator is closed early, the request is cancelled, and completions that still arrive are ignored.
        """
        self._request += 1
        lengths = [sum(len(message["content"]) for message in messages) for messages in conversations]
        shares = split_evenly(lengths, len(self.settings))
        busy = {number for number, share in enumerate(shares) if share}
        for number in sorted(busy):
            share = [conversations[index] for index in shares[number]]
            request = {"request": self._request, "conversations": share, "n": n, "sampling": sampling}
            self._child(number).send(request)
        try:
            while busy:
                number, message = self._next_message()
                if message["request"] != self._request:
                    continue
                if message["completions"] is None:
                    busy.remove(number)
                else:
                    yield [_with_global_index(shares[number], one) for one in message["completions"]]
        finally:
            for number in busy & self._children.keys():
                self._children[number].send({"cancel": self._request})

    def close(self) -> None:
        """End the processes, and wait until they have ended and their memory is free."""
        while self._children:
            self._children.popitem()[1].end()

    def _child(self, number: int) -> _Child:
        if number not in self._children:
            self._children[number] = _Child(number, self.model, self.settings[number], self._messages)
        return self._children[number]

    def _next_message(self) -> tuple[int, Any]:
        """Return the next message of a process that is open. Closes all processes and raises if one of them fails."""
        child, message = self._messages.get()
        while self._children.get(child.number) is not child:
            child, message = self._messages.get()
        if message is not None and "failed" not in message:
            return child.number, message
        log = self._children.pop(child.number).end()
        self.close()
        device = self.settings[child.number].device
        if message is not None:
            raise converter().structure(message["failed"], Failure).error(f"generation on {device}")
        raise StageError("\n".join([f"the process that generates on {device} died; the last lines of its log:", *log]))


class _Child:
    """One generating process, seen from the pool."""

    def __init__(
        self, number: int, model: Model, settings: TransformersSettings, messages: SimpleQueue[tuple[_Child, Any]]
    ) -> None:
        self.number = number
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end
        self._process = subprocess.Popen(
            [sys.executable, "-m", ANSWERER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            text=True,
            encoding="utf-8",
            **own_session(),
        )
        self.send({"model": model, "settings": settings})
        self._listener = Thread(target=self._listen, args=(messages,), daemon=True)
        self._listener.start()

    def send(self, message: Any) -> None:
        """Send a message. That a process has ended is noticed by the thread that reads its messages, not here."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(dump(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def end(self) -> list[str]:
        """End the process if it still runs; returns the last lines of its log."""
        self._process.kill()
        self._listener.join()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # a message that the process did not read any more
            self._process.stdin.close()
        with self._log, self._process:  # closes the pipes, and waits
            return last_lines(self._log)

    def _listen(self, messages: SimpleQueue[tuple[_Child, Any]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                messages.put((self, json.loads(line)))
        messages.put((self, None))


def _with_global_index(share: Sequence[int], completion: Any) -> Completion:
    """Return a completion that refers to its conversation by the index among those of all processes."""
    own = converter().structure(completion, Completion)
    return evolve(own, prompt=share[own.prompt])
