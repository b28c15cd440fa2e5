"""``tutelage status``: show the progress of a run and the process that works on it. Writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tutelage.cli.options import as_json, run_argument
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.errors import InputError
from tutelage.results.wording import counts_words, title
from tutelage.runs.status import RunStatus, StepStatus, damaged_artifacts, run_status


@click.command("status")
@run_argument
@click.option("--all", "everything", is_flag=True, help="Also list the finished steps.")
@click.option(
    "--verify", is_flag=True, help="Compare finished artifacts with their recorded rows, sizes and checksums."
)
@as_json
def command(run: Path, everything: bool, verify: bool, as_json: bool) -> None:
    """Show which steps of a run are finished and which remain.

    With --verify, all finished artifacts are read, and the exit code is 2 if one was truncated or changed.
    """
    status = run_status(run)
    problems = damaged_artifacts(status) if verify else []
    if as_json:
        print_line(json.dumps({**status_values(status), **({"problems": problems} if verify else {})}, indent=2))
    else:
        _show(status, everything)
    if problems:
        raise InputError("\n".join(problems))
    if verify and not as_json:
        print_line("all finished artifacts are as they were written")


def _show(status: RunStatus, everything: bool) -> None:
    listed = [step for step in status.steps if everything or step.state != "done"]
    if listed:
        print_table(
            Table(("step", "state", "items", "output"), [_row(step) for step in listed], left=frozenset({"output"}))
        )
        print_line()
    counts = ", ".join(f"{status.count(state)} {state}" for state in ("done", "in progress", "to come"))
    print_text(f"{status.root}: recipe {status.recipe}, {len(status.steps)} steps: {counts}")
    for variant in status.variants:
        print_text(f"  variant {variant.root.name}: {variant.count('done')} of {len(variant.steps)} steps done")
    print_text(_next_step_text(status))


def status_values(status: RunStatus) -> dict[str, object]:
    """Return a run's status as values for JSON."""
    return {
        "run": str(status.root),
        "recipe": status.recipe,
        "process": status.process,
        "done": status.count("done"),
        "steps": [
            {
                "output": step.step.output,
                "stage": step.step.stage,
                "state": step.state,
                "kept": step.kept,
                "counts": dict(step.counts),
                "count": step.step.count,
                "unit": step.step.unit,
            }
            for step in status.steps
        ],
        "variants": {variant.root.name: status_values(variant) for variant in status.variants},
    }


def _row(status: StepStatus) -> tuple[str, str, str, str]:
    step = status.step
    done = status.state == "done"
    items = counts_words(step, status.counts) if done else f"{status.kept:,} of {step.count:,} {step.unit}"
    return title(step), status.state, items, step.output


def _next_step_text(status: RunStatus) -> str:
    if status.process is not None:
        return f"process {status.process or 'unknown'} is working on the run"
    if status.count("done") == len(status.steps):
        return "the run is finished"
    return f"no process is working on the run; continue it with `tutelage run --run {status.root}`"
