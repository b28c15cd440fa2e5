"""One model in the kept worker processes, each of which completes its share of the conversations.

Which prompts a process gets depends on the prompts alone, never on which process is faster: another composition of a
batch changes logits in the last digits, and a repeated run must give the same completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from attrs import evolve, frozen

from tutelage.errors import TutelageError
from tutelage.files.jsonl import converter
from tutelage.records import Model, Sampling
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation.engine import Completion, OnText
from tutelage_transformers.generation.weighing import ReplyProbabilities
from tutelage_transformers.models.chat import Conversation
from tutelage_transformers.processes import pool
from tutelage_transformers.settings import TransformersSettings

LOAD, ANSWER, WEIGH, RELEASE = (
    f"tutelage_transformers.generation.answerer:{name}" for name in ("load", "answer", "weigh", "release")
)
_DOING = "generation"
ResultT = TypeVar("ResultT", Completion, ReplyProbabilities)


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


@frozen
class SharedModel:
    """A model that the kept processes of several devices load. A process frees the model that it had before."""

    model: Model
    settings: TransformersSettings
    devices: tuple[str, ...]

    def load(self) -> None:
        """Start the processes if none run, and make each load the model. Does not wait for them."""
        self._processes().post(LOAD, {number: self._named(number) for number in range(len(self.devices))})

    def complete(
        self,
        conversations: Sequence[Conversation],
        n: int,
        sampling: Sampling,
        seeds: Sequence[int],
        on_text: OnText | None = None,
    ) -> Iterator[list[Completion]]:
        """Complete each of the conversations n times, each process its share. Each conversation has its own seed.

        Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` if a process dies. If the
        iterator is closed early, the request is cancelled, and completions that still arrive are ignored.
        """
        shares = self._shares(conversations)
        arguments = {
            number: {
                **self._given(number, conversations, share),
                "seeds": [seeds[index] for index in share],
                "n": n,
                "sampling": sampling,
                "shows_text": on_text is not None and len(conversations) == n == 1,
            }
            for number, share in shares.items()
        }
        for number, completions in self._processes().run(ANSWER, arguments, _DOING):
            if isinstance(completions, str):
                if on_text:
                    on_text(completions)
                continue
            yield [_with_global_index(shares[number], one, Completion) for one in completions]

    def weigh(
        self, conversations: Sequence[Conversation], replies: Sequence[str]
    ) -> Iterator[list[ReplyProbabilities]]:
        """Compute the probabilities of ``replies`` to each of the conversations, each process its share.

        Raises as ``complete`` does.
        """
        shares = self._shares(conversations)
        arguments = {
            number: {**self._given(number, conversations, share), "replies": list(replies)}
            for number, share in shares.items()
        }
        for number, found in self._processes().run(WEIGH, arguments, _DOING):
            yield [_with_global_index(shares[number], one, ReplyProbabilities) for one in found]

    def _shares(self, conversations: Sequence[Conversation]) -> dict[int, list[int]]:
        """Return the indices of the conversations of each process that gets any."""
        lengths = [sum(len(message["content"]) for message in messages) for messages in conversations]
        return {number: share for number, share in enumerate(split_evenly(lengths, len(self.devices))) if share}

    def _given(self, number: int, conversations: Sequence[Conversation], share: Sequence[int]) -> dict[str, Any]:
        """Return the model, the settings and the conversations of one process."""
        return {**self._named(number), "conversations": [conversations[index] for index in share]}

    def _processes(self) -> pool.WorkerPool:
        return pool.kept(self.devices)

    def _named(self, number: int) -> dict[str, Any]:
        """Return the model and the settings of one process."""
        return {
            "model": self.model,
            "settings": parallel.settings_of_one_process(self.settings, self.devices[number]),
        }


def release() -> None:
    """Free the memory of the model in the kept processes, and wait until it is free. The processes stay."""
    if processes := pool.current():
        with suppress(TutelageError):  # then all are ended, which frees their memory as well
            for _ in processes.run(RELEASE, dict.fromkeys(range(len(processes.devices))), _DOING):
                pass


def _with_global_index(share: Sequence[int], result: Any, kind: type[ResultT]) -> ResultT:
    """Return a result that refers to its conversation by the index among those of all processes."""
    own = converter().structure(result, kind)
    return evolve(own, prompt=share[own.prompt])
