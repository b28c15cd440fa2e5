"""The figures of GPUs that ``docs/speed.md`` and ``docs/real.md`` quote from ``docs/proof.json``."""

from __future__ import annotations

from typing import Any

SHAPES = {
    "phi-2": "Phi-2: 2.8 billion parameters",
    "llama-3.2-1b": "Llama 3.2 1B: 32 heads, 8 of keys and values",
    "qwen2.5-0.5b": "Qwen 2.5 0.5B: 14 heads, 2 of keys and values",
    "gemma-3-270m": "Gemma 3 270M: 4 heads of 256, windows of 512, 262,144 tokens in the vocabulary",
}
STEPS = {
    "seed-0/M1/checkpoint": "M1: SFT, 4 steps",
    "seed-0/M1/samples/candidates.jsonl": "candidates",
    "seed-0/self-reward/M2/judgements.jsonl": "judgements",
    "seed-0/self-reward/M2/checkpoint": "DPO, {pairs} pairs per step",
}


def gpu_generation(proof: dict[str, Any]) -> str:
    """Return the generation speed of a student of Phi-2's size, for answers and for judgements."""
    arms = proof["gpu"]["generation"]["arms"]
    names = {
        "one-by-one": "`generate`, one answer at a time",
        "static": "`generate`, best setting: static cache, compiled, 512 answers at a time",
        "engine": "**tutelage**",
        "full-static": "all answers have 256 tokens: `generate`, best setting",
        "full-engine": "all answers have 256 tokens: **tutelage**",
        "judging": "4,000 judgements of 100 tokens, with a rubric of 400 tokens: **tutelage**",
    }
    lines = ["| | kept tokens per second | seconds | warm-up in seconds |", "|---|---|---|---|"]
    for arm, name in names.items():
        row = arms[arm]
        rate = f"{row['tokens_per_second']:,.0f}"
        lines.append(
            f"| {name} | {rate} | {row['seconds']} ({row['kept_tokens']:,} tokens) | {row['warm_up_seconds']} |"
        )
    ratio, full = (
        arms[fast]["tokens_per_second"] / arms[slow]["tokens_per_second"]
        for fast, slow in (("engine", "static"), ("full-engine", "full-static"))
    )
    compared = (
        f"tutelage is {ratio:.1f} times as fast as the best setting of `generate`. If all answers have 256 tokens, "
        f"it is {full:.1f} times as fast."
    )
    return "\n".join([*lines, "", compared]) + "\n"


def gpu_training(proof: dict[str, Any]) -> str:
    """Return the training speed of a student of Phi-2's size.

    DPO is compared with TRL in the same measurement. The larger sets of examples were measured with tutelage only.
    """
    ours, best = proof["gpu"]["training"]["arms"]
    head = (
        "| | examples | tokens per second | tokens per second in the steps | seconds | seconds before the first step "
        "| peak memory |"
    )
    lines = [head, "|---|---|---|---|---|---|---|"]
    lines += [_training_row(row) for row in (ours, best, *proof["gpu"]["training-alone"]["arms"])]
    ratios = [ours[rate] / best[rate] for rate in ("tokens_per_second", "tokens_per_second_in_steps")]
    compared = (
        f"In the same run, DPO is {ratios[0]:.1f} times as fast as TRL's best setting. If only the steps are counted, "
        f"it is {ratios[1]:.1f} times as fast."
    )
    return "\n".join([*lines, "", compared]) + "\n"


def _training_row(row: dict[str, Any]) -> str:
    names = {
        "dpo-packed": "DPO, **tutelage**",
        "dpo-best": "DPO, TRL's best setting",
        "sft-packed": "SFT, **tutelage**",
    }
    return (
        f"| {names[row['arm']]}, {row.get('batch', row.get('trl_batch'))} per step | {row['pairs']:,} "
        f"| {row['tokens_per_second']:,} | {row['tokens_per_second_in_steps']:,} | {row['seconds']} "
        f"| {row['seconds_before_first_step']} | {row['peak_gib']} GiB |"
    )


def gpu_memory(proof: dict[str, Any]) -> str:
    """Return peak memory and speed for several limits on the memory that the process may use."""
    lines = [
        "| memory limit | training | rows at once | gradient checkpointing | peak memory | estimated memory "
        "| tokens per second in the steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(proof["gpu"]["memory"]["arms"], key=lambda row: (row["memory_cap"], row["arm"])):
        training = "DPO, r=16" if row["arm"].startswith("dpo") else "SFT, r=64"
        base = ", 4-bit base" if row["quantization"] == "4bit" else ""
        checkpointing = "yes" if row["gradient_checkpointing"] else "no"
        lines.append(
            f"| {row['memory_cap']:.0f} GB | {training}{base} | {row['rows_at_once']} | {checkpointing} "
            f"| {row['peak_gib']} GiB | {row['estimated_gib']} GiB | {row['tokens_per_second_in_steps']:,} |"
        )
    return "\n".join(lines) + "\n"


def gpu_iteration(proof: dict[str, Any]) -> str:
    """Return the time of one whole iteration, step by step."""
    iteration = proof["gpu"]["iteration"]
    lines = ["| step | seconds | result |", "|---|---|---|"]
    for step in iteration["steps"]:
        counts = ", ".join(f"{count:,} {name}" for name, count in step["counts"].items())
        lines.append(f"| `{step['output']}` | {step['seconds']} | {counts} |")
    lines.append(f"| the whole of `tutelage run` | {iteration['seconds']} | |")
    first = f"The first run on this machine, which compiles the kernels, took {iteration['first_seconds']} s."
    present = iteration["first_run_since"]
    steps = ", ".join(f"{name} {seconds}" for name, seconds in present["seconds_of_steps"].items())
    since = (
        "Since then kernels are compiled in threads, and DPO's steps are captured. The first run on another\n"
        f"machine, while tests ran on its second GPU, took {present['seconds']} s ({steps})."
    )
    return "\n".join([*lines, "", first, since]) + "\n"


def gpu_rivals(proof: dict[str, Any]) -> str:
    """Return the speed of the paged engine and of vLLM for the shapes of four models."""
    lines = [
        "| shape | tutelage: tokens per second | vLLM | ratio | tutelage: ready after | vLLM | ratio with the start |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape, name in SHAPES.items():
        row = proof["gpu"]["rivals"]["shapes"][shape]
        ours, other = row["tutelage"], row["vllm"]
        lines.append(
            f"| {name} | {ours['tokens_per_second']:,} | {other['tokens_per_second']:,} "
            f"| {row['ratio of tokens_per_second']:.2f} | {ours['ready_seconds']} s | {other['ready_seconds']} s "
            f"| {row['ratio of tokens_per_second_with_start']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def gpu_scaling(proof: dict[str, Any]) -> str:
    """Return the seconds of the steps of an iteration by the number of GPUs, and their efficiency."""
    return _scaling(proof["gpu"]["scaling"], pairs=16)


def gpu_scaling_64(proof: dict[str, Any]) -> str:
    """Return the same with 64 pairs in each step of DPO."""
    return _scaling(proof["gpu"]["scaling-64"], pairs=64)


def _scaling(measured: dict[str, Any], pairs: int) -> str:
    first, *others = measured["runs"]
    lines = ["| step | 1 GPU | " + " | ".join(f"{run['devices']} GPUs" for run in others) + " |"]
    lines.append("|" + "---|" * (2 + len(others)))
    for step, name in STEPS.items():
        alone = first["steps"][step]
        cells = [f"{alone} s"]
        for run in others:
            taken = run["steps"][step]
            cells.append(f"{taken} s (efficiency {alone / (run['devices'] * taken):.0%})")
        lines.append(f"| {name.format(pairs=pairs)} | {' | '.join(cells)} |")
    whole = " | ".join(f"{run['seconds']} s" for run in (first, *others))
    return "\n".join([*lines, f"| the whole of `tutelage run` | {whole} |"]) + "\n"


def gpu_captured(proof: dict[str, Any]) -> str:
    """Return the seconds of a training step with and without CUDA graphs."""
    measured = proof["gpu"]["captured"]
    lines = ["| pairs per step | kernels launched one by one | CUDA graphs |", "|---|---|---|"]
    for pairs, seconds in measured["seconds_per_step"].items():
        lines.append(f"| {pairs} | {seconds['launched']} s | {seconds['captured']} s |")
    whole = measured["of_an_iteration"]
    seconds = whole["seconds"]
    since = (
        "LoRA layers and rotations had no kernels of their own then. With these, the 63 steps of DPO of an iteration\n"
        f"(16 pairs per step) took {seconds['launched']} s with kernels launched one by one, and "
        f"{seconds['captured']} s with CUDA graphs,\n"
        f"{whole['seconds_of_captures']} s of which were {whole['captures']} captures."
    )
    return "\n".join([*lines, "", f"A capture takes about {measured['seconds_of_a_capture']} s.", "", since]) + "\n"


def gpu_real(proof: dict[str, Any]) -> str:
    """Return what the run with real weights printed, and its time."""
    return _real(proof["gpu"]["real"]["runs"]["ifeval"])


def gpu_real_paper(proof: dict[str, Any]) -> str:
    """Return the same of the run with the prompts of the paper."""
    return _real(proof["gpu"]["real"]["runs"]["paper"])


def _real(run: dict[str, Any]) -> str:
    printed = "\n".join(f"    {line}".rstrip() for line in run["output"].split("\n"))
    sentences = [f"The run took {_seconds(run)}"]
    if again := run.get("again"):
        sentences.append(f"With training steps in CUDA graphs, the same recipe took {_seconds(again)}")
    return f"{printed}\n\n" + "\n".join(sentences) + "\n"


def _seconds(run: dict[str, Any]) -> str:
    steps = run["steps"]
    candidates, judgements = steps["candidates"], steps["judgements"]
    first, second, third = steps["dpo"]["seconds"]
    return (
        f"{run['seconds']} s: {steps['M1']['seconds']} s for M1, {candidates['seconds']} s for "
        f"{candidates['count']:,} candidates,\n{judgements['seconds']} s for {judgements['count']:,} judgements by the "
        f"student itself, and {first}, {second} and {third} s for the three DPO trainings."
    )


GPU_BLOCKS = {
    "gpu-generation": gpu_generation,
    "gpu-training": gpu_training,
    "gpu-memory": gpu_memory,
    "gpu-iteration": gpu_iteration,
    "gpu-rivals": gpu_rivals,
    "gpu-scaling": gpu_scaling,
    "gpu-scaling-64": gpu_scaling_64,
    "gpu-captured": gpu_captured,
    "gpu-real": gpu_real,
    "gpu-real-paper": gpu_real_paper,
}
