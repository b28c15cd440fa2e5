"""Answering processes, one a device: each loads the model once, and stays until the pool is closed.

They are asked through a pipe, in JSON lines, and answer through another. Which questions a process gets follows from
the questions alone, never from who is faster: a batch of another composition changes logits in the last digits, and a
repeated run must give the same replies. None outlives this process: where the pipe of questions ends, they end.
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
from tutelage_transformers.generation.engine import Reply
from tutelage_transformers.processes.child import environment, last_lines
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.settings import TransformersSettings

ANSWERER = "tutelage_transformers.generation.answerer"


def deal(questions: Sequence[str], processes: int) -> list[list[int]]:
    """The places of each process's questions: dealt out by length, back and forth, so that all have as much to do."""
    order = sorted(range(len(questions)), key=lambda place: (-len(questions[place]), place))
    shares: list[list[int]] = [[] for _ in range(processes)]
    for turn, place in enumerate(order):
        round, seat = divmod(turn, processes)
        shares[seat if round % 2 == 0 else processes - 1 - seat].append(place)
    return shares


class Pool:
    """The answering processes of one model; each is started when it first has a question."""

    def __init__(self, model: Model, settings: Sequence[TransformersSettings]) -> None:
        self.model = model
        self.settings = settings
        """Of each process, with its device."""
        self._heard: SimpleQueue[tuple[_Answerer, Any]] = SimpleQueue()
        """What the processes say: the process, and its message, None once it has ended."""
        self._answerers: dict[int, _Answerer] = {}
        self._asked = 0

    def ask(self, questions: Sequence[str], n: int, sampling: Sampling) -> Iterator[list[Reply]]:
        """Ask all processes, each for its share.

        Raises what a process raises of ``tutelage.errors``, and ``StageError`` where one dies. Left early, the
        processes are told to stop; what they still say is passed over by the next call.
        """
        self._asked += 1
        shares = deal(questions, len(self.settings))
        busy = {number for number, share in enumerate(shares) if share}
        for number in sorted(busy):
            texts = [questions[place] for place in shares[number]]
            self._answerer(number).tell({"ask": self._asked, "questions": texts, "n": n, "sampling": sampling})
        try:
            while busy:
                number, message = self._hear()
                if message["ask"] != self._asked:
                    continue
                if message["replies"] is None:
                    busy.remove(number)
                else:
                    yield [_placed(shares[number], reply) for reply in message["replies"]]
        finally:
            for number in busy & self._answerers.keys():
                self._answerers[number].tell({"stop": self._asked})

    def close(self) -> None:
        """End the processes, and wait until they are gone, and their memory with them."""
        while self._answerers:
            self._answerers.popitem()[1].end()

    def _answerer(self, number: int) -> _Answerer:
        if number not in self._answerers:
            self._answerers[number] = _Answerer(number, self.model, self.settings[number], self._heard)
        return self._answerers[number]

    def _hear(self) -> tuple[int, Any]:
        """The next message, of a process that is not closed. Raises for one that fails, and then closes all."""
        answerer, message = self._heard.get()
        while self._answerers.get(answerer.number) is not answerer:
            answerer, message = self._heard.get()
        if message is not None and "failed" not in message:
            return answerer.number, message
        words = self._answerers.pop(answerer.number).end()
        self.close()
        device = self.settings[answerer.number].device
        if message is not None:
            raise converter().structure(message["failed"], Failure).error(f"answering on {device}")
        raise StageError("\n".join([f"the process that answers on {device} died; its last words:", *words]))


class _Answerer:
    """One process, as the pool sees it."""

    def __init__(self, number: int, model: Model, settings: TransformersSettings, heard: SimpleQueue[Any]) -> None:
        self.number = number
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end
        self._process = subprocess.Popen(
            [sys.executable, "-m", ANSWERER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the process that asks
            text=True,
            encoding="utf-8",
        )
        self.tell({"model": model, "settings": settings})
        self._listener = Thread(target=self._listen, args=(heard,), daemon=True)
        self._listener.start()

    def tell(self, message: Any) -> None:
        """Send a message; a process that is gone is noticed by who listens to it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(dump(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def end(self) -> list[str]:
        """End the process, which may be gone already; returns the last lines that it wrote."""
        self._process.kill()
        self._listener.join()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it was told and did not read any more
            self._process.stdin.close()
        with self._log, self._process:  # closes the pipes, and waits
            return last_lines(self._log)

    def _listen(self, heard: SimpleQueue[Any]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                heard.put((self, json.loads(line)))
        heard.put((self, None))


def _placed(share: Sequence[int], reply: Any) -> Reply:
    """A reply that names its question by the place among all of them."""
    own = converter().structure(reply, Reply)
    return evolve(own, prompt=share[own.prompt])
