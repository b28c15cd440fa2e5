"""``tutelage status``: show the progress of a run and the process that works on it. Writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tutelage.cli.options import as_json, run_argument
from tutelage.cli.output import Table, print_line, print_table
from tutelage.results.wording import counts_words, title
from tutelage.runs.status import RunStatus, StepStatus, run_status


@click.command("status")
@run_argument
@click.option("--all", "everything", is_flag=True, help="Also list the finished steps.")
@as_json
def command(run: Path, everything: bool, as_json: bool) -> None:
    """Show which steps of a run are finished and which remain."""
    status = run_status(run)
    if as_json:
        print_line(json.dumps(status_values(status), indent=2))
        return
    listed = [step for step in status.steps if everything or step.state != "done"]
    if listed:
        print_table(
            Table(("step", "state", "items", "output"), [_row(step) for step in listed], left=frozenset({"output"}))
        )
        print_line()
    counts = ", ".join(f"{status.count(state)} {state}" for state in ("done", "in progress", "to come"))
    print_line(f"{status.root}: recipe {status.recipe}, {len(status.steps)} steps: {counts}")
    print_line(_next_step_text(status))


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
    }


def _row(status: StepStatus) -> tuple[str, str, str, str]:
    step = status.step
    done = status.state == "done"
    items = counts_words(step, status.counts) if done else f"{status.kept:,} of {step.count:,} {step.unit}"
    return title(step), status.state, items, step.output


def _next_step_text(status: RunStatus) -> str:
    if status.process is not None:
        return f"process {status.process} is working on the run"
    if status.count("done") == len(status.steps):
        return "the run is finished"
    return f"no process is working on the run; continue it with `tutelage run --run {status.root}`"
