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


BLOCKS = {"demo": demo, "seeds": seeds, "robustness": robustness, "services": services}

if __name__ == "__main__":
    main()
