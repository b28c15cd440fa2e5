"""A kept worker process whose model is a stand-in: it takes as long as a GPU would, and computes nothing.

``bench_scaling.py --simulate`` starts it in place of ``tutelage_transformers.processes.serving``. Requests, messages
and the division of work are the real ones. The time is that of the paged engine on an H100 with a model of Phi-2's
size: up to 512 sequences at once, a step takes ``STEP_SECONDS`` and ``SEQUENCE_SECONDS`` per sequence (24,800 tokens/s
when full). Each process appends its busy seconds to the file in ``BENCH_BUSY``.
"""

from __future__ import annotations

import heapq
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.records import Sampling
from tutelage_transformers.generation import answerer, dispatch
from tutelage_transformers.generation.engine import Completion
from tutelage_transformers.processes import serving

SLOTS = 512
STEP_SECONDS = 0.006
SEQUENCE_SECONDS = 0.0000285
PREFILL_SECONDS = 0.00001
"""Per token of a prompt."""
NOT_ENDING = 1 / 6
"""Share of candidates that reach 256 new tokens; their lengths are geometric, with a mean of 120."""
_WORDS_PER_TOKEN = 0.7


def lengths(count: int, longest: int, seed: str) -> list[int]:
    """Return the new tokens of sequences, each geometric and at most ``longest``."""
    draw = random.Random(seed)
    end = 1 - NOT_ENDING ** (1 / 256)
    return [min(longest, 1 + int(math.log(1 - draw.random()) / math.log(1 - end))) for _ in range(count)]


def schedule(tokens: Sequence[int]) -> Iterator[tuple[float, list[int]]]:
    """Yield (seconds since the event before, sequences that end) of an engine whose slots are filled again at once."""
    waiting = iter(enumerate(tokens))
    running: list[tuple[int, int]] = []
    step = 0
    while True:
        while len(running) < SLOTS and (following := next(waiting, None)) is not None:
            heapq.heappush(running, (step + following[1], following[0]))
        if not running:
            return
        seconds = (running[0][0] - step) * (STEP_SECONDS + SEQUENCE_SECONDS * len(running))
        step = running[0][0]
        ended = []
        while running and running[0][0] == step:
            ended.append(heapq.heappop(running)[1])
        yield seconds, ended


def complete(
    loaded: Any,
    settings: Any,
    conversations: Sequence[Any],
    n: int,
    sampling: Sampling,
    seeds: Sequence[int],
    on_text: Callable[[str], None] | None = None,
) -> Iterator[list[Completion]]:
    """Replace ``dispatch.complete``: sleep as long as a GPU works, and return texts of the right lengths."""
    started = now = time.perf_counter()
    contents = [message["content"] for messages in conversations for message in messages]
    now += PREFILL_SECONDS * sum(len(content.split()) for content in contents) / _WORDS_PER_TOKEN
    tokens = lengths(len(conversations) * n, sampling.max_new_tokens, f"{seeds[:1]}{contents[:1]}")
    for seconds, ended in schedule(tokens):
        now += seconds
        time.sleep(max(0.0, now - time.perf_counter()))
        yield [
            Completion(*divmod(one, n), "word " * int(tokens[one] * _WORDS_PER_TOKEN) + "score: 3", tokens[one], True)
            for one in ended
        ]
    with Path(os.environ["BENCH_BUSY"]).open("a", encoding="utf-8") as file:
        file.write(f"{time.perf_counter() - started}\n")


if __name__ == "__main__":
    serving._prepare = lambda device: None  # no libraries are needed
    answerer._loaded = lambda arguments: (None, None)  # type: ignore[assignment, return-value]
    dispatch.complete = complete
    serving.main(sys.argv[1])
