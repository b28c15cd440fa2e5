"""Tokens per second of generation: the engine, ``generate`` one by one, and ``generate`` with its best static batch.

    python tests/bench/bench_generation.py                       # the embedded student's size, on this machine
    python tests/bench/bench_generation.py --size phi-2          # random weights of Phi-2's size, on a GPU
    python tests/bench/bench_generation.py --arms engine,judging --size phi-2

All arms sample at temperature 0.7 and top-p 0.9 from the same prompts. Counted are the tokens of the completions, up to
and including the stop token. In the ``full`` arms all completions reach the limit; in ``judging`` they are judgements
of 100 tokens under a rubric of 400. ``--caller-ms`` is the time that the caller of the engine takes per completion; the
GPU should not wait for it. The first line is the device's name; the last is everything as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import random_student
from attrs import frozen

from tutelage.records import Sampling
from tutelage_transformers.generation.engine import generate, stop_tokens
from tutelage_transformers.generation.memory import MAX_SEQUENCES, bytes_per_token
from tutelage_transformers.models.chat import ensure_chat, user_prompt
from tutelage_transformers.models.loading import LoadedModel

ARMS = ("one-by-one", "static", "full-static", "engine", "full-engine", "judging")
"""In the order in which they run: all arms share one student, whose attention the engine replaces."""
LENGTHS = {"embedded": (8, 16, 32), "phi-2": (16, 116, 256)}
"""Minimum and maximum number of words of a prompt (the template adds four), and the limit of new tokens."""

JUDGED = {"embedded": (60, 32), "phi-2": (400, 250)}
"""Number of words of the rubric, and maximum number of words of a judged answer."""


@frozen
class Speed:
    """The result of one arm."""

    seconds: float
    kept: int
    completions: int
    warm_up: float = 0.0
    """Seconds of capturing or compiling, before the time is measured."""
    traffic: int = 0
    """Bytes that have to be read: the weights once per step, the keys and values of a sequence once per token."""

    @property
    def rate(self) -> float:
        """Kept tokens per second."""
        return self.kept / self.seconds


def student(size: str, device: str, end_bias: float | None = None) -> LoadedModel:
    """Return a student of random weights, ready for generation."""
    tokenizer = random_student.tokenizer(size)
    ensure_chat(tokenizer)
    model = random_student.build(size, end_bias, device)
    model.set_attn_implementation("sdpa" if device.startswith("cuda") else "eager")
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    return LoadedModel(model, tokenizer)


def by_engine(
    loaded: LoadedModel,
    prompts: list[str],
    n: int,
    sampling: Sampling,
    batch_size: int | None,
    caller_seconds: float = 0.0,
) -> Speed:
    """Measure ``tutelage_transformers.generation.engine``, after a short warm-up of its own."""
    rows = batch_size or MAX_SEQUENCES
    started = time.perf_counter()
    _engine(loaded, prompts[: max(1, rows // n)], n, _with_limit(sampling, 2), batch_size)
    warm_up = time.perf_counter() - started
    started = time.perf_counter()
    written = _engine(loaded, prompts, n, sampling, batch_size, caller_seconds)
    seconds = time.perf_counter() - started
    kept = sum(count for _, count in written)
    return Speed(seconds, kept, len(written), warm_up, _traffic(loaded, prompts, written, rows))


def _engine(
    loaded: LoadedModel,
    prompts: list[str],
    n: int,
    sampling: Sampling,
    batch_size: int | None,
    caller_seconds: float = 0.0,
) -> list[tuple[int, int]]:
    """Return the index of the prompt and the number of tokens of each completion.

    ``caller_seconds`` is the time that is spent on each completion before the next ones are requested.
    """
    written = []
    for batch in generate(loaded, prompts, n, sampling, batch_size):
        written += [(completion.prompt, completion.tokens + completion.ended) for completion in batch]
        until = time.perf_counter() + caller_seconds * len(batch)
        while time.perf_counter() < until:
            pass
    return written


def _traffic(loaded: LoadedModel, prompts: list[str], written: list[tuple[int, int]], rows: int) -> int:
    lengths = [len(ids) for ids in loaded.tokenizer(prompts, add_special_tokens=False).input_ids]
    steps = sum(count for _, count in written) / min(rows, len(written))
    tokens = sum(lengths[prompt] * count + count * (count - 1) // 2 for prompt, count in written)
    return int(steps * loaded.model.get_memory_footprint() + tokens * bytes_per_token(loaded.model))


def copy_bandwidth(device: str) -> float:
    """Return the bytes per second, read and written, of a copy within the device's memory."""
    import torch

    source = torch.ones(2**28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        target.copy_(source)
        target[-1].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return float(2 * source.nbytes / min(times))


def _with_limit(sampling: Sampling, new_tokens: int) -> Sampling:
    return Sampling(sampling.temperature, sampling.top_p, new_tokens, sampling.seed)


def by_generate(
    loaded: LoadedModel, prompts: list[str], n: int, sampling: Sampling, batch_size: int, static: bool
) -> Speed:
    """Measure transformers' ``generate``; ``static`` compiles a static cache, so all batches have one shape."""
    at_once = max(1, batch_size // n)
    prompts = sorted(prompts, key=len)
    if static:
        prompts = prompts[: len(prompts) // at_once * at_once] or prompts
    loaded.tokenizer.padding_side = "left"
    longest = max(len(ids) for ids in loaded.tokenizer(prompts, add_special_tokens=False).input_ids)
    warm_up = 0.0
    if static:
        started = time.perf_counter()
        _generate(loaded, prompts[:at_once], n, sampling, longest, static)
        warm_up = time.perf_counter() - started
    started = time.perf_counter()
    kept = sum(
        _generate(loaded, prompts[start : start + at_once], n, sampling, longest if static else None, static)
        for start in range(0, len(prompts), at_once)
    )
    return Speed(time.perf_counter() - started, kept, len(prompts) * n, warm_up)


def _generate(
    loaded: LoadedModel, prompts: list[str], n: int, sampling: Sampling, length: int | None, static: bool
) -> int:
    import torch

    inputs = loaded.tokenizer(
        prompts,
        return_tensors="pt",
        padding="max_length" if length else True,
        max_length=length,
        add_special_tokens=False,
    ).to(loaded.model.device)
    with torch.inference_mode():
        output = loaded.model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=n,
            cache_implementation="static" if static else None,
        )
    rows = output[:, inputs.input_ids.shape[1] :].tolist()
    return kept_tokens(rows, stop_tokens(loaded))


def kept_tokens(rows: list[list[int]], stops: frozenset[int]) -> int:
    """Return the number of tokens up to and including the first stop token of each row."""
    return sum(next((index + 1 for index, token in enumerate(row) if token in stops), len(row)) for row in rows)


def judge_prompts(size: str, count: int) -> list[str]:
    """Return prompts of a rubric, a task and an answer to it; four answers per task."""
    rubric_words, most = JUDGED[size]
    (rubric,) = random_student.texts(size, 1, rubric_words, rubric_words, seed=1)
    tasks = random_student.texts(size, -(-count // 4), *LENGTHS[size][:2])
    answers = random_student.texts(size, count, 1, most, seed=2)
    return [f"{rubric} {tasks[number // 4]} {answer}" for number, answer in enumerate(answers)]


def measure(arm: str, loaded: LoadedModel, options: argparse.Namespace) -> Speed:
    """Run one arm."""
    size, on_gpu = options.size, options.device.startswith("cuda")
    full = arm.startswith("full") or arm == "judging"
    loaded.model.lm_head.bias.data[0] = random_student.NEVER if full else random_student.END_BIAS[size]
    shortest, longest, limit = LENGTHS[size]
    prompts = [
        user_prompt(loaded.tokenizer, text) for text in random_student.texts(size, options.prompts, shortest, longest)
    ]
    sampling = Sampling(0.7, 0.9, limit, 0)
    if arm == "judging":
        asked = judge_prompts(size, options.prompts * options.samples)
        prompts = [user_prompt(loaded.tokenizer, text) for text in asked]
        return by_engine(loaded, prompts, 1, _with_limit(sampling, 100), options.batch_size, options.caller_ms / 1000)
    if arm == "one-by-one":
        return by_generate(loaded, prompts[: options.alone], 1, sampling, 1, static=False)
    if arm.endswith("static"):
        few = prompts[: options.static_batches * options.static_size // options.samples] if on_gpu else prompts
        return by_generate(loaded, few, options.samples, sampling, options.static_size, static=on_gpu)
    return by_engine(loaded, prompts, options.samples, sampling, options.batch_size, options.caller_ms / 1000)


def main(arguments: list[str] | None = None) -> None:
    """Measure the arms, print the speed of each and its ratio to the others."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(LENGTHS), default="embedded")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arms", default="one-by-one,static,engine", help="comma-separated: " + ",".join(ARMS))
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=None, help="sequences at once in the engine")
    parser.add_argument("--caller-ms", type=float, default=0.0, help="time that the caller takes for a completion")
    parser.add_argument("--static-size", type=int, default=512, help="sequences at once in generate")
    parser.add_argument("--static-batches", type=int, default=4, help="batches of generate that are measured, on a GPU")
    parser.add_argument("--alone", type=int, default=8, help="prompts that generate completes one by one")
    options = parser.parse_args(arguments)
    print(torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{torch.get_num_threads()} threads")
    chosen = options.arms.split(",")
    if unknown := set(chosen) - set(ARMS):
        sys.exit(f"no such arms: {', '.join(unknown)}; there are: {', '.join(ARMS)}")
    loaded = student(options.size, options.device)
    bandwidth = copy_bandwidth(options.device)
    print(f"a copy reaches {bandwidth / 1e12:.2f} TB/s")
    results = {}
    for arm in sorted(chosen, key=ARMS.index):
        speed = results[arm] = measure(arm, loaded, options)
        print(
            f"{arm:12} {speed.completions:6} completions {speed.kept:9,} tokens {speed.seconds:8.2f} s "
            f"{speed.rate:10,.1f} tokens/s (warm-up {speed.warm_up:.1f} s{_share(speed, bandwidth)})",
            flush=True,
        )
    for fast, slow in (("engine", "one-by-one"), ("engine", "static"), ("full-engine", "full-static")):
        if fast in results and slow in results:
            print(f"{fast} / {slow}: {results[fast].rate / results[slow].rate:.2f}")
    print(json.dumps({arm: _row(speed) for arm, speed in results.items()}))


def _share(speed: Speed, bandwidth: float) -> str:
    """Return the speed as a share of the limit by memory, which is the time of reading ``traffic``."""
    return f", {speed.traffic / bandwidth / speed.seconds:.0%} of the limit by memory" if speed.traffic else ""


def _row(speed: Speed) -> dict[str, Any]:
    return {
        "seconds": round(speed.seconds, 2),
        "kept_tokens": speed.kept,
        "tokens_per_second": round(speed.rate, 1),
        "warm_up_seconds": round(speed.warm_up, 1),
        "gigabytes_to_read": round(speed.traffic / 1e9, 1),
    }


if __name__ == "__main__":
    main()
