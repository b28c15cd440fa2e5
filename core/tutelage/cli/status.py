"""``tutelage status``: how far a run is, and who works on it. Reads only."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tutelage.cli.options import as_json
from tutelage.cli.output import Table, say, show
from tutelage.results.wording import counts_words, title
from tutelage.runs.status import RunStatus, StepStatus, run_status


@click.command("status")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="List the finished steps, too.")
@as_json
def command(run: Path, everything: bool, as_json: bool) -> None:
    """Show what of a run is done, and what is to come."""
    status = run_status(run)
    if as_json:
        say(json.dumps(status_values(status), indent=2))
        return
    listed = [step for step in status.steps if everything or step.state != "done"]
    if listed:
        show(Table(("step", "state", "items", "output"), [_row(step) for step in listed], left=frozenset({"output"})))
        say()
    counts = ", ".join(f"{status.count(state)} {state}" for state in ("done", "in progress", "to come"))
    say(f"{status.root}: recipe {status.recipe}, {len(status.steps)} steps: {counts}")
    say(_what_now(status))


def status_values(status: RunStatus) -> dict[str, object]:
    """A run's status as plain values."""
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
    }


def _row(status: StepStatus) -> tuple[str, str, str, str]:
    step = status.step
    done = status.state == "done"
    items = counts_words(step, status.counts) if done else f"{status.kept:,} of {step.count:,} {step.unit}"
    return title(step), status.state, items, step.output


def _what_now(status: RunStatus) -> str:
    if status.process is not None:
        return f"process {status.process} is working on it"
    if status.count("done") == len(status.steps):
        return "it is finished"
    return f"nobody is working on it; `tutelage run --run {status.root}` continues"
