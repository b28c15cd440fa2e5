"""Measure time and memory of near-duplicate detection on up to a million prompts, and whether both grow linearly.

``nice .venv/bin/python tests/bench/bench_dedup.py [--size 1000000]``. The prompts are synthetic: words with the
frequencies of a language (Zipf's law) after shared openings, as in self-instructed prompts; one in five repeats an
earlier prompt with one word replaced. One process and one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Iterator
from itertools import accumulate

from tutelage.data.similarity import SeenTexts

OPENINGS = (
    "What is the best way to",
    "How do I",
    "Write a short story about",
    "Please explain",
    "Can you list",
    "Why is",
)
REPEATED = 0.2


def vocabulary(size: int, draw: random.Random) -> list[str]:
    """Random words of two to four syllables."""
    syllables = [first + second for first in "bcdfghjklmnprstvw" for second in "aeiou"]
    return ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(size)]


def prompts(count: int, seed: int = 0) -> Iterator[tuple[str, bool]]:
    """Yield prompts, each with whether it repeats an earlier one."""
    draw = random.Random(seed)
    words = vocabulary(30_000, draw)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    recent: list[str] = []
    for _ in range(count):
        if recent and draw.random() < REPEATED:
            changed = draw.choice(recent).split()
            changed[draw.randrange(6, len(changed))] = draw.choice(words)
            yield " ".join(changed), True
            continue
        text = f"{draw.choice(OPENINGS)} " + " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(12, 25)))
        recent.append(text)
        if len(recent) > 10_000:
            recent[draw.randrange(10_000)] = recent.pop()
        yield text, False


def measure(count: int) -> dict[str, float]:
    """Deduplicate ``count`` prompts. The time to generate them is subtracted."""
    started = time.perf_counter()
    repeats = sum(repeated for _, repeated in prompts(count))
    generation = time.perf_counter() - started
    started = time.perf_counter()
    found = sum(similar is not None for _, similar in SeenTexts().admit(text for text, _ in prompts(count)))
    seconds = time.perf_counter() - started - generation
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "prompts": count,
        "seconds": round(seconds, 1),
        "microseconds_each": round(seconds / count * 1e6, 1),
        "memory_gib": round(memory, 2),
        "repeats": repeats,
        "found": found,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    size = parser.parse_args().size
    for count in (size // 4, size // 2, size):
        print(json.dumps(measure(count)), flush=True)
