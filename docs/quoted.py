"""Write the parts of the hand-written pages that quote: what commands print, and figures of ``docs/proof.json``.

A page marks them: a console block that begins with ``$ tutelage`` shows that command's output (its first lines only,
where the block ends with ``...``; ``runs/demo`` is the golden run of the tests), and ``<!-- quoted: NAME -->`` to
``<!-- end -->`` holds the block of that name. ``--check`` writes nothing and fails where a block of figures is stale.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tutelage.cli import cli

ROOT = Path(__file__).parent.parent
GOLDEN_RUN = "tests/fixtures/golden-run"
CONSOLE = re.compile(r"(```console\n\$ tutelage ([^\n]*)\n)(.*?)(```)", re.DOTALL)
QUOTED = re.compile(r"(<!-- quoted: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/evaluation.md",
    "docs/embedded.md",
    "docs/data.md",
    "docs/architecture.md",
    "docs/services.md",
    "docs/speed.md",
)


def main() -> None:
    check = "--check" in sys.argv
    proof = json.loads((ROOT / "docs/proof.json").read_text(encoding="utf-8"))
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text(encoding="utf-8")
        after = QUOTED.sub(lambda match: match[1] + BLOCKS[match[2]](proof) + match[4], before)
        if not check:
            after = CONSOLE.sub(lambda match: match[1] + printed(match[2], match[3]) + match[4], after)
        if after != before:
            stale.append(name)
            if not check:
                page.write_text(after, encoding="utf-8")
    if check and stale:
        sys.exit(f"not what docs/proof.json says: {', '.join(stale)}; run `make docs`")


def printed(command: str, shown: str) -> str:
    """What a command prints, as many lines of it as the page shows."""
    result = CliRunner().invoke(cli, shlex.split(command.replace("runs/demo", GOLDEN_RUN)))
    if result.exit_code and "error:" not in shown:
        sys.exit(f"`tutelage {command}`, which a page quotes, fails:\n{result.output}")
    output = result.output.replace(f"{ROOT}/", "").replace(GOLDEN_RUN, "runs/demo")
    if not shown.endswith("...\n"):
        return output
    return "".join(output.splitlines(keepends=True)[: shown.count("\n") - 1]) + "...\n"


def demo(proof: dict[str, Any]) -> str:
    """The table at the end of the demo, and how long it took."""
    shown = proof["embedded"]
    took = (
        f"{shown['wall_seconds']:.0f} seconds on {shown['machine']}, {shown['peak_mib']:,} MiB of memory at its peak."
    )
    return f"```text\n{shown['output'].strip()}\n```\n\n`tutelage run` took {took}\n"


def seeds(proof: dict[str, Any]) -> str:
    """What each pipeline did on the seeds that nobody tuned on."""
    shown = proof["embedded-seeds"]
    lines = ["| difference in gold score | value | 95% interval |", "|---|---|---|"]
    for row in shown["differences"]:
        metric = row["gold_score"]
        interval = f"{metric['low']:+.2f} to {metric['high']:+.2f}"
        lines.append(f"| {row['left']} - {row['right']} | {metric['value']:+.2f} | {interval} |")
    models = ["| model | gold score | exact |", "|---|---|---|"]
    for name, metrics in shown["models"].items():
        models.append(f"| {name} | {metrics['gold_score']['value']:.2f} | {metrics['gold_exact']['value']:.0%} |")
    return "\n".join([*models, "", *lines]) + "\n"


def robustness(proof: dict[str, Any]) -> str:
    """Start-up and kills, as far as they were measured."""
    lines = []
    if kills := proof.get("kills"):
        lines.append(
            f"- Of {kills['kills']} runs killed with `kill -9` at random moments and continued, "
            f"{kills['same_summary']} ended with the bytes of an undisturbed run's `summary.json`."
        )
    if startup := proof.get("startup"):
        help_ = startup["help_cpu_seconds"]
        lines.append(f"- `tutelage --help` takes {help_['median']} s of processor time (median of {help_['runs']}).")
    return "\n".join(lines) + "\n"


def services(proof: dict[str, Any]) -> str:
    """Faults, kills and speed of calls, as far as they were measured."""
    lines = []
    for service, faults in proof.get("service-faults", {}).items():
        if isinstance(faults, dict):
            ended = ", ".join(f"{count:,} {outcome}" for outcome, count in faults["outcomes"].items())
            lines.append(
                f"- `{service}`, a server that fails in every way on 30% of the requests: {faults['calls']:,} judge "
                f"calls took {faults['attempts']:,} requests and ended as {ended}; "
                f"{faults['answered_items_asked_twice']} answered items were asked twice."
            )
    if kills := proof.get("service-kills"):
        lines.append(
            f"- Of {kills['kills']} API runs killed with `kill -9` and continued, {kills['same_artifacts']} ended with "
            f"the artifacts of an undisturbed run; at most {kills['most_repeated']} requests were sent again, with "
            f"{kills['in_flight']} in flight."
        )
    if speed := proof.get("service-throughput"):
        lines.append(
            f"- {speed['calls']:,} calls to a server that takes 200 ms, 64 in flight: {speed['calls_per_second']:.0f} "
            f"a second, {speed['of_possible']:.0%} of what is possible; memory {speed['mib_at_1000_calls']:.0f} MiB "
            f"after 1,000 calls, {speed['mib_highest']:.0f} MiB at its highest."
        )
    return "\n".join(lines) + "\n"


def gpu_generation(proof: dict[str, Any]) -> str:
    """Answers and judgements of a student of Phi-2's size."""
    arms = proof["gpu"]["generation"]["arms"]
    names = {
        "one-by-one": "`generate`, one answer at a time",
        "static": "`generate`, its best: static cache, compiled, 512 answers at a time",
        "engine": "**tutelage**",
        "full-static": "all answers run to 256 tokens: `generate`, its best",
        "full-engine": "all answers run to 256 tokens: **tutelage**",
        "judging": "4,000 judgements of 100 tokens, a rubric of 400: **tutelage**",
    }
    lines = ["| | kept tokens a second | seconds | warm-up, seconds |", "|---|---|---|---|"]
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
    return (
        "\n".join([*lines, "", f"That is {ratio:.1f} times the best `generate`, {full:.1f} times with full answers."])
        + "\n"
    )


def gpu_training(proof: dict[str, Any]) -> str:
    """SFT and DPO of a student of Phi-2's size, against TRL in the same run, and larger sets alone."""
    ours, best = proof["gpu"]["training"]["arms"]
    head = "| | examples | tokens a second | in its steps | seconds | before the first step | peak memory |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    lines += [_training_row(row) for row in (ours, best, *proof["gpu"]["training-alone"]["arms"])]
    ratios = [ours[rate] / best[rate] for rate in ("tokens_per_second", "tokens_per_second_in_steps")]
    compared = (
        f"DPO in the same run: {ratios[0]:.1f} times TRL's best setting, {ratios[1]:.1f} times in the steps alone."
    )
    return "\n".join([*lines, "", compared]) + "\n"


def _training_row(row: dict[str, Any]) -> str:
    names = {
        "dpo-packed": "DPO, **tutelage**",
        "dpo-best": "DPO, TRL's best setting",
        "sft-packed": "SFT, **tutelage**",
    }
    return (
        f"| {names[row['arm']]}, {row.get('batch', row.get('trl_batch'))} a step | {row['pairs']:,} "
        f"| {row['tokens_per_second']:,} | {row['tokens_per_second_in_steps']:,} | {row['seconds']} "
        f"| {row['seconds_before_first_step']} | {row['peak_gib']} GiB |"
    )


def gpu_memory(proof: dict[str, Any]) -> str:
    """Peak memory and speed where the process may use so much memory only."""
    lines = [
        "| may use | | at once | gradient checkpointing | peak | estimated | tokens a second, in its steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(proof["gpu"]["memory"]["arms"], key=lambda row: (row["memory_cap"], row["arm"])):
        what = "DPO, r=16" if row["arm"].startswith("dpo") else "SFT, r=64"
        base = ", 4-bit base" if row["quantization"] == "4bit" else ""
        checkpointing = "yes" if row["gradient_checkpointing"] else "no"
        lines.append(
            f"| {row['memory_cap']:.0f} GB | {what}{base} | {row['rows_at_once']} | {checkpointing} "
            f"| {row['peak_gib']} GiB | {row['estimated_gib']} GiB | {row['tokens_per_second_in_steps']:,} |"
        )
    return "\n".join(lines) + "\n"


def gpu_iteration(proof: dict[str, Any]) -> str:
    """One whole iteration, step by step."""
    iteration = proof["gpu"]["iteration"]
    lines = ["| step | seconds | |", "|---|---|---|"]
    for step in iteration["steps"]:
        counts = ", ".join(f"{count:,} {name}" for name, count in step["counts"].items())
        lines.append(f"| `{step['output']}` | {step['seconds']} | {counts} |")
    return "\n".join([*lines, f"| all of `tutelage run` | {iteration['seconds']} | |"]) + "\n"


BLOCKS = {
    "gpu-generation": gpu_generation,
    "gpu-training": gpu_training,
    "gpu-memory": gpu_memory,
    "gpu-iteration": gpu_iteration,
    "demo": demo,
    "seeds": seeds,
    "robustness": robustness,
    "services": services,
}

if __name__ == "__main__":
    main()
