"""``tutelage plan``: show the work of a recipe, its cost and time, and what a run keeps. Runs and writes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import click
from attrs import asdict, evolve

from tutelage.cli.options import RecipeOptions, as_json, recipe_options
from tutelage.cli.output import Table, print_line, print_status, print_table, print_text, wrapped
from tutelage.execution.prepared import notices_of, prepare, raise_problems, unshared
from tutelage.planning.estimate import Estimate, estimates
from tutelage.planning.steps import Plan, Step
from tutelage.planning.wrapping import wrapped_hooks, wrapped_words
from tutelage.results.changes_words import changes_words
from tutelage.results.wording import seconds_words, worker
from tutelage.runs.changes import Changes
from tutelage.runs.speeds import TimeEstimate, estimate
from tutelage.runs.store import Store, is_run

_MOST_NAMES = 3
"""Number of variants that are named."""


@click.command("plan")
@recipe_options
@click.option("--steps", "show_steps", is_flag=True, help="List every step with its inputs and output.")
@as_json
def command(options: RecipeOptions, show_steps: bool, as_json: bool) -> None:
    """Show the steps of a recipe without running them.

    RECIPE is a file or the name of a built-in recipe [default: embedded], or the folder of a run. Shows the work that
    remains, its cost and time, and, if the run's folder contains a run, what it keeps. Counts are upper bounds: a step
    may drop answers, which later steps then do not receive. Makes the checks of `tutelage run`, except those that need
    the hub. If only services are not available, the plan is printed before the problems.
    """
    prepared = prepare(options.recipe, options.registry, Store(options.directory), download=False)
    for notice in notices_of(prepared):
        print_status(notice)
    base, *variants = prepared
    plan, found = base.plan, base.changes
    remaining = evolve(plan, steps=tuple(unshared(one for one in prepared if one.plan)))
    expected = estimates(remaining, options.recipe, options.registry)
    wrappers = wrapped_hooks(options.recipe, options.registry, base.sources.declared)
    if as_json:
        values = plan_values(options.recipe.name, plan, expected, found)
        values |= {"wrappers": wrappers} if wrappers else {}
        shared = [plan_values(one.name, one.plan, (), one.changes) for one in variants]
        print_line(json.dumps({**values, **({"variants": shared} if shared else {})}, indent=2))
        raise_problems(prepared)
        return
    models = f"{len(plan.models)} models"
    print_text(f"{options.recipe.name}: {len(plan.steps)} steps, {models}, in {options.directory}")
    for line in changes_words(found) if is_run(options.directory) else ():
        print_line(wrapped(line))
    for line in wrapped_words(wrappers):
        print_line(wrapped(line))
    if show_steps:
        _print_steps(plan, found)
    if variants:
        own = len(remaining.steps) - len(found.remaining)
        names = ", ".join(one.name for one in variants[:_MOST_NAMES])
        more = f" and {len(variants) - _MOST_NAMES} more" if len(variants) > _MOST_NAMES else ""
        print_line(wrapped(f"{len(variants)} variants with {own} steps of their own: {names}{more}"))
    print_line()
    if not remaining.steps:
        print_line("nothing to do: every artifact is in place")
        raise_problems(prepared)
        return
    print_table(_totals_table(remaining))
    if expected:
        print_line()
        print_table(_cost_table(expected))
    print_line()
    print_line(wrapped(_time_words(estimate(remaining.steps, found, options.recipe))))
    if not show_steps:
        print_text("`--steps` lists every step with its inputs and output.")
    raise_problems(prepared)


def _print_steps(plan: Plan, found: Changes) -> None:
    states = {change.step.output: change.state for change in found.steps}
    for folder, steps in groupby(plan.steps, key=_folder):
        print_line()
        print_table(_steps_table(folder, list(steps), states))


def _time_words(expected: TimeEstimate) -> str:
    if not expected.unknown:
        return f"time: about {seconds_words(expected.seconds)}, by the speed of earlier runs on this machine"
    known = f"at least {seconds_words(expected.seconds)}; " if expected.seconds else ""
    steps = f"{expected.unknown} steps" if expected.unknown > 1 else "1 step"
    return f"time: {known}unknown for {steps}, because no earlier run on this machine did such work with their models"


def plan_values(
    recipe: str, plan: Plan, expected: Sequence[Estimate] = (), found: Changes | None = None
) -> dict[str, Any]:
    """Return a plan, its expected API usage and what a run keeps as values for JSON."""
    states = {change.step.output: change.state for change in found.steps} if found else {}
    return {
        "recipe": recipe,
        "models": [model.id for model in plan.models],
        "steps": [
            {
                "output": step.output,
                "stage": step.stage,
                "model": worker(step) or None,
                "inputs": list(step.inputs),
                "count": step.count,
                "unit": step.unit,
                "seed": step.seed,
                "state": states.get(step.output, "new"),
            }
            for step in plan.steps
        ],
        "services": [asdict(line) for line in expected],
        "totals": [{"stage": key[0], "model": key[1], "unit": key[2], "count": count} for key, count in _totals(plan)],
    }


def _folder(step: Step) -> str:
    """The folder of the model that the step's output belongs to."""
    parents = [part for part in PurePosixPath(step.output).parts[:-1] if part != "samples"]
    return "/".join(parents)


def _steps_table(folder: str, steps: list[Step], states: Mapping[str, str]) -> Table:
    def short(path: str) -> str:
        return path.removeprefix(f"{folder}/")

    rows = [
        (
            step.stage,
            worker(step),
            short(step.output),
            _count(step),
            states[step.output],
            ", ".join(map(short, step.inputs)),
        )
        for step in steps
    ]
    columns = ("stage", "model", "output", "count", "state", "inputs")
    return Table(
        columns, rows, folder or "results", left=frozenset({"model", "output", "state", "inputs"}), below="output"
    )


def _count(step: Step) -> str:
    return f"{step.count:,} {step.unit}"


def _totals(plan: Plan) -> Iterator[tuple[tuple[str, str, str], int]]:
    """The total number of items for each (stage, role, unit)."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for step in plan.steps:
        model = getattr(step, "worker", None) or getattr(step, "start", None)
        counts[step.stage, model.role if model else "", step.unit] += step.count
    yield from counts.items()


def _cost_table(expected: list[Estimate]) -> Table:
    """The expected API usage and cost by stage and model; an unknown price is shown as unknown."""
    rows = [
        (
            line.stage,
            line.role,
            line.model,
            f"{line.calls:,}",
            f"{line.input_tokens:,}",
            f"{line.output_tokens:,}",
            "measured" if line.seen else "estimated",
            _cost(line),
        )
        for line in expected
    ]
    known = sum(line.cost for line in expected if line.cost is not None)
    unknown = " plus unknown costs" if any(line.cost is None for line in expected) else ""
    columns = ("stage", "role", "model", "calls", "tokens in", "tokens out", "tokens", "cost")
    return Table(columns, rows, f"services: ${known:,.2f}{unknown}", left=frozenset({"role", "model", "tokens"}))


def _cost(line: Estimate) -> str:
    cost = "unknown" if line.cost is None else f"${line.cost:,.2f}"
    return f"{cost} in batches" if line.in_batches else cost


def _totals_table(plan: Plan) -> Table:
    rows = [(stage, role, f"{count:,}", unit) for (stage, role, unit), count in _totals(plan)]
    return Table(("stage", "role", "count", "unit"), rows, "to do", left=frozenset({"role", "unit"}))
