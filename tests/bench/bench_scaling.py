"""How an iteration scales with the number of GPUs: ``tutelage run`` with 1, 2, 4, 8 of them, seconds of each step.

python tests/bench/bench_scaling.py --size phi-2 --folder /tmp/scaling --prompts 10000 --devices 1,2,4,8
python tests/bench/bench_scaling.py --size small --device cpu --folder /tmp/scaling --prompts 40 --devices 1,2
python tests/bench/bench_scaling.py --simulate --devices 8 --prompts 10000
python tests/bench/bench_scaling.py --size phi-2 --folder /tmp/killed --prompts 10000 --devices 8,4 --kill

The first two run ``bench_iteration.py`` once for each number of devices, each in a process of its own, so start-up is
included. They print a JSON line for each: the seconds of each step, their efficiency against the first (its seconds
divided by the devices and the seconds of this one), the greatest relative difference of a training's losses from those
of the first, and the share of candidates that are equal. M1 of several devices differs by rounding, so that drawn
candidates of a model in bfloat16 may differ.

The fourth kills the run on the first number of devices once it has stored candidates, and continues it on the second.
It prints how many candidates were stored, and the steps that were done twice.

The third has no GPU and no model: worker processes sleep as long as a GPU would work (``sleeping_worker.py``), and
everything else, from the chunks of a stage to its journal, is real. It prints the share of time that the workers are
busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import random_student

import tutelage_transformers
from tutelage.context import Context
from tutelage.files.jsonl import read_rows
from tutelage.plugins import stages
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import ADDITIVE_RUBRIC
from tutelage.records import Candidate, JudgeItem, Judgement, Model, Prompt, Sampling
from tutelage.runs.durable import DurableStage, Unit
from tutelage.runs.store import Store
from tutelage_transformers.processes import pool

FOLDER = Path(__file__).parent


def command_of(options: argparse.Namespace, folder: Path, devices: int) -> list[str]:
    """Return the command that runs the benchmark of one iteration on ``devices`` devices."""
    command = [sys.executable, str(FOLDER / "bench_iteration.py"), "--size", options.size, "--folder", str(folder)]
    command += ["--prompts", str(options.prompts), "--batch-size", str(options.batch_size), "--prompts-from-file"]
    command += ["--processes", str(devices), "--device", options.device, "--chunk", str(options.chunk)]
    return [*command, "--adapter-dtype", options.adapter_dtype]


def run_iteration(options: argparse.Namespace, devices: int) -> tuple[float, Path]:
    """Run the benchmark of one iteration; returns its seconds and the folder of its run."""
    folder = options.folder / f"on-{devices}"
    command = command_of(options, folder, devices)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - started, folder / "run"


def seconds_of_steps(run: Path) -> dict[str, float]:
    """Return the seconds of each step of a run, by the path of its artifact."""
    return {row["output"]: row["seconds"] for _, row in read_rows(run / "steps.jsonl")}


def greatest_loss_difference(run: Path, other: Path) -> dict[str, float]:
    """Return the greatest relative difference of the losses of each training of two runs."""
    found = {}
    for file in sorted(run.glob("seed-*/**/metrics.jsonl")):
        name = str(file.relative_to(run).parent)
        pairs = zip(losses(file), losses(other / file.relative_to(run)), strict=False)
        found[name] = max(abs(one - two) / max(abs(two), 1e-9) for one, two in pairs)
    return found


def losses(file: Path) -> list[float]:
    """Return the loss of each step."""
    return [row["loss"] for _, row in read_rows(file) if "loss" in row]


def equal_candidates(run: Path, other: Path) -> float:
    """Return the share of candidates with the same text in two runs."""
    equal = total = 0
    for file in run.glob("seed-*/**/candidates.jsonl"):
        texts = [
            {(row["prompt_id"], row["index"]): row["text"] for _, row in read_rows(one)}
            for one in (file, other / file.relative_to(run))
        ]
        total += len(texts[0])
        equal += sum(texts[1].get(key) == text for key, text in texts[0].items())
    return equal / max(1, total)


def scale(options: argparse.Namespace) -> None:
    """Run with each number of devices, and print a JSON line for each."""
    first: tuple[int, float, Path] | None = None
    for devices in options.devices:
        seconds, run = run_iteration(options, devices)
        first = first or (devices, seconds, run)
        steps, before = seconds_of_steps(run), seconds_of_steps(first[2])
        factor = devices / first[0]
        print(
            json.dumps(
                {
                    "devices": devices,
                    "seconds": round(seconds, 1),
                    "efficiency": round(first[1] / (factor * seconds), 3),
                    "steps": steps,
                    "efficiencies": {
                        name: round(before[name] / (factor * taken), 3)
                        for name, taken in steps.items()
                        if name in before and taken > 0
                    },
                    "loss_differences": greatest_loss_difference(run, first[2]),
                    "equal_candidates": round(equal_candidates(run, first[2]), 4),
                }
            ),
            flush=True,
        )


def kill_and_continue(options: argparse.Namespace) -> None:
    """Kill a run in the middle of its candidates, continue it on other devices, and print what was done twice."""
    folder, (first, second) = options.folder / "killed", options.devices
    with subprocess.Popen(command_of(options, folder, first), stdout=sys.stderr) as killed:
        while not (stored := candidates_in_journal(folder)) and killed.poll() is None:
            time.sleep(0.05)
        killed.kill()
    assert killed.returncode < 0, "the run ended before it could be killed: set a smaller --chunk, or more --prompts"
    before = {row["output"] for _, row in read_rows(folder / "run/steps.jsonl")}
    subprocess.run(command_of(options, folder, second), check=True, stdout=sys.stderr)
    after = [row["output"] for _, row in read_rows(folder / "run/steps.jsonl")]
    twice = sorted({name for name in after if after.count(name) > 1})
    print(
        json.dumps(
            {
                "killed_on": first,
                "continued_on": second,
                "stored_candidates": stored,
                "steps_before": len(before),
                "steps_twice": twice,
            }
        )
    )


def candidates_in_journal(folder: Path) -> int:
    """Return the number of candidates that an unfinished step has stored."""
    return sum(len(file.read_bytes().splitlines()) for file in folder.glob("run/seed-*/**/.candidates.jsonl.journal"))


def simulate(options: argparse.Namespace, devices: int) -> None:
    """Sample and judge by workers that sleep; print the share of time that they are busy in each stage."""
    texts = random_student.texts("phi-2", options.prompts, 20, 116)
    prompts = [Prompt(f"{number} {text}") for number, text in enumerate(texts)]
    items = [JudgeItem(f"{prompt.id}/{index}", prompt.text, "word " * 80) for prompt in prompts for index in range(4)]
    sampling = Sampling(temperature=0.7, max_new_tokens=256)
    judging = Sampling(temperature=1.0, max_new_tokens=100)
    print(json.dumps({"devices": devices, **_simulated("candidates", Candidate, options, devices, prompts, sampling)}))
    print(json.dumps({"devices": devices, **_simulated("judgements", Judgement, options, devices, items, judging)}))


def _simulated(
    name: str, kind: type[Any], options: argparse.Namespace, devices: int, items: Sequence[Any], sampling: Sampling
) -> dict[str, Any]:
    registry = Registry.empty()
    registry.register(tutelage_transformers, "transformers")

    def ids(item: Any) -> tuple[str, ...]:
        return tuple(f"{item.id}/{index}" for index in range(4 if name == "candidates" else 1))

    def stage(registry: Registry, model: Model, items: Sequence[Any], **given: Any) -> Iterator[Any]:
        if name == "candidates":
            return stages.generate_candidates(registry, model, items, 4, **given)
        return stages.judge(registry, model, items, ADDITIVE_RUBRIC, 1, **given)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text('{"architectures": ["PhiForCausalLM"]}', encoding="utf-8")
        model = Model("transformers", folder, {"device": "cpu", "processes": devices})
        os.environ["BENCH_BUSY"] = str(Path(folder, "busy"))
        workers = pool.WorkerPool(["cpu"] * devices, "sleeping_worker")
        pool.end_all()
        pool._pools.append(workers)
        try:
            list(workers.run("tutelage_transformers.generation.answerer:release", _all(devices), "starting"))
            durable = DurableStage(registry, model, Context(), chunk=options.chunk)
            started = time.perf_counter()
            units = [Unit(item, ids(item)) for item in items]
            count = sum(
                1 for _ in durable.results(Store(Path(folder)).journal(name, kind), units, stage, sampling, (0,))
            )
            seconds = time.perf_counter() - started
        finally:
            pool.end_all()
        busy = sum(map(float, Path(folder, "busy").read_text().split()))
    return {
        "stage": name,
        "results": count,
        "seconds": round(seconds, 2),
        "busy": round(busy / (devices * seconds), 3),
    }


def _all(devices: int) -> dict[int, None]:
    return dict.fromkeys(range(devices))


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as 1,2,4."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Run or simulate with each number of devices."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(random_student.SIZES), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--devices", type=numbers, default=[1, 2], help="numbers of devices; the first is compared with"
    )
    parser.add_argument("--folder", type=Path, help="folder of the runs")
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs per step; a multiple of the devices")
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--adapter-dtype", default="bfloat16")
    parser.add_argument("--kill", action="store_true", help="continue a killed run on another number of devices")
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    if options.simulate:
        for devices in options.devices:
            simulate(options, devices)
    elif options.folder is None:
        parser.error("--folder: missing")
    elif options.kill:
        kill_and_continue(options)
    else:
        scale(options)


if __name__ == "__main__":
    main()
