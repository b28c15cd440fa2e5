"""The costs of a real vocabulary outside of the model: control tokens in texts, and sampling from 262,144 logits.

    python tests/bench/bench_vocabulary.py
    python tests/bench/bench_vocabulary.py --sequences 8 --threads 1

Each is compared, in the same run, with the way that tries every control token on every text, or that sorts the whole
vocabulary. Both ways must give the same result. The vocabulary has the size of Gemma 3's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tutelage.records import Sampling
from tutelage_transformers.generation import sampling as module
from tutelage_transformers.generation.sampling import sample_tokens
from tutelage_transformers.models.chat import Controls

VOCABULARY = 262_144
CONTROLS = {f"<unused{number}>" for number in range(6242)} | {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>"}
CONTROLS |= {"<start_of_turn>", "<end_of_turn>"}
PROMPT = "Review the user's question <Question> and the [response] with an additive scale of 5 points.\n" * 20
SAMPLINGS = (Sampling(0.7, 0.9), Sampling(1.0, 1.0), Sampling(1.0, 1.0, top_k=64), Sampling(1.0, 1.0, min_p=0.05))


def main() -> None:
    """Measure both on this machine, and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    controls = Controls(frozenset(CONTROLS))
    for name, text in (("none in it", PROMPT), ("three in it", f"{PROMPT}<eos><end_of_turn>\n<unused7>")):
        report(f"control tokens, {name}", partial(controls.escaped, text), partial(one_by_one, text))
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(options.sequences, dtype=torch.float64, generator=generator)
    logits = logits_like_a_models(options.sequences, generator)
    for sampling in SAMPLINGS:
        report(
            f"{options.sequences} x {VOCABULARY:,} logits, temperature {sampling.temperature}, top_p {sampling.top_p}, "
            f"top_k {sampling.top_k}, min_p {sampling.min_p}",
            partial(sample_tokens, logits, sampling, uniform),
            partial(sort_all, logits, sampling, uniform),
        )


def logits_like_a_models(sequences: int, generator: torch.Generator) -> Any:
    """Logits in bfloat16 whose probabilities fall with a power of the rank, from nearly certain to widely spread."""
    ranks = torch.arange(1, VOCABULARY + 1).log()
    powers = torch.linspace(1.2, 4, sequences)[:, None]
    return (-powers * ranks)[:, torch.randperm(VOCABULARY, generator=generator)].bfloat16()


def one_by_one(text: str) -> str:
    """Try every control token on the text."""
    for control in sorted(CONTROLS, key=lambda one: (-len(one), one)):
        text = text.replace(control, f"{control[0]} {control[1:]}")
    return text


def sort_all(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """Sample from the sorted vocabulary."""
    return module._of_all(torch.softmax(logits.float() / sampling.temperature, -1), sampling, uniform)


def report(name: str, new: Callable[[], Any], old: Callable[[], Any]) -> None:
    """Print the milliseconds of both ways. Raises ``AssertionError`` if their results differ."""
    results, milliseconds = [], []
    for one in (new, old):
        one()
        repeats, start = 0, time.perf_counter()
        while repeats < 1 or time.perf_counter() - start < 0.3:
            result, repeats = one(), repeats + 1
        milliseconds.append(1000 * (time.perf_counter() - start) / repeats)
        results.append(result)
    assert torch.equal(*results) if torch.is_tensor(results[0]) else results[0] == results[1], name
    print(
        f"{name}: {milliseconds[0]:.3f} ms, before {milliseconds[1]:.2f} ms ({milliseconds[1] / milliseconds[0]:.1f}x)"
    )


if __name__ == "__main__":
    main()
