"""``tutelage status``: show the progress of a run and the process that works on it. Writes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import click
from attrs import evolve

from tutelage.cli.options import as_json, run_argument
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.errors import InputError, TutelageError
from tutelage.planning.estimate import estimates
from tutelage.plugins.registry import Registry
from tutelage.results.wording import counts_words, seconds_words, title
from tutelage.runs.run import Run
from tutelage.runs.status import RunStatus, StepStatus, damaged_artifacts, run_status
from tutelage.runs.store import open_run
from tutelage.runs.tracebacks import read_traceback


@click.command("status")
@run_argument
@click.option("--all", "everything", is_flag=True, help="Also list the finished steps.")
@click.option(
    "--verify", is_flag=True, help="Compare finished artifacts with their recorded rows, sizes and checksums."
)
@click.option("--traceback", is_flag=True, help="Print the traceback of the error with which the last process ended.")
@as_json
def command(run: Path, everything: bool, verify: bool, traceback: bool, as_json: bool) -> None:
    """Show which steps of a run are finished and which remain.

    With --verify, all finished artifacts are read, and the exit code is 2 if one was truncated or changed.
    """
    if traceback:
        print_line(read_traceback(open_run(run)).rstrip() or "the last process ended without an error of a plugin")
        return
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
            Table(
                ("step", "state", "items", "output"),
                [_row(step) for step in listed],
                left=frozenset({"items", "output"}),
                below="output",
            )
        )
        print_line()
    counts = ", ".join(f"{status.count(state)} {state}" for state in ("done", "in progress", "to come"))
    print_text(f"{status.root}: recipe {status.recipe}, {len(status.steps)} steps: {counts}")
    for variant in status.variants:
        print_text(f"  variant {variant.root.name}: {variant.count('done')} of {len(variant.steps)} steps done")
    print_text(spent_text(status))
    if status.count("done") < len(status.steps):
        print_text(left_text(status))
    print_text(next_step_text(status))
    if read_traceback(open_run(status.root)):
        print_text(f"the last process ended with an error: `tutelage status {status.root} --traceback` shows where")


def status_values(status: RunStatus) -> dict[str, object]:
    """Return a run's status as values for JSON."""
    return {
        "run": str(status.root),
        "recipe": status.recipe,
        "process": status.process,
        "done": status.count("done"),
        "started": status.started.isoformat() if status.started else None,
        "last_step_finished": status.changed.isoformat() if status.changed else None,
        "seconds": status.seconds,
        "cost": status.cost,
        "left": {"seconds": status.left.seconds, "unknown_steps": status.left.unknown},
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


def spent_text(status: RunStatus) -> str:
    """Return when the run was started, and the time and the cost of its finished steps."""
    parts = [f"started {_moment(status.started)}"] if status.started else []
    if status.changed and status.count("done") < len(status.steps):
        parts.append(f"last step finished {_moment(status.changed)}")
    parts.append(f"{seconds_words(status.seconds)} of work")
    parts.append(f"${status.cost:,.2f} of API calls")
    return "; ".join(parts)


def left_text(status: RunStatus) -> str:
    """Return the expected time and cost of the steps that are not done."""
    left = status.left
    steps = "1 step" if left.unknown == 1 else f"{left.unknown:,} steps"
    if left.unknown and not left.seconds:
        time = f"unknown time for {steps}, because no earlier run on this machine did such work"
    else:
        more = f" plus unknown time for {steps}" if left.unknown else ""
        time = f"about {seconds_words(left.seconds)}{more}, by the speed of the finished steps and of earlier runs"
    return f"left: {time}{_cost_left_text(status)}"


def _cost_left_text(status: RunStatus) -> str:
    """The expected cost of the steps that are not done; empty if they call no service, or a plugin is missing."""
    run = Run.open(status.root)
    remaining = tuple(step.step for step in status.steps if step.state != "done")
    try:
        expected = estimates(evolve(run.plan, steps=remaining), run.recipe, _installed_plugins())
    except TutelageError:
        return ""
    if not expected:
        return ""
    known = sum(line.cost for line in expected if line.cost is not None)
    unknown = " plus unknown costs" if any(line.cost is None for line in expected) else ""
    return f"; ${known:,.2f}{unknown} of API calls"


@cache
def _installed_plugins() -> Registry:
    """The installed plugins, which ``watch`` needs at every refresh."""
    return Registry.discover()


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def next_step_text(status: RunStatus) -> str:
    """Return which process works on the run, or what to do next."""
    if status.process is not None:
        return f"process {status.process or 'unknown'} is working on the run"
    if status.count("done") == len(status.steps):
        return "the run is finished"
    return f"no process is working on the run; continue it with `tutelage run --run {status.root}`"
