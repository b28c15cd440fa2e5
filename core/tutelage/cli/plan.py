"""``tutelage plan``: show the steps of a recipe with their inputs, outputs and counts. Runs and writes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import click
from attrs import asdict

from tutelage.cli.options import RecipeOptions, as_json, recipe_options
from tutelage.cli.output import Table, print_line, print_status, print_table
from tutelage.planning.estimate import Estimate, estimates
from tutelage.planning.preflight import preflight
from tutelage.planning.steps import Plan, Step
from tutelage.results.wording import worker


@click.command("plan")
@recipe_options
@as_json
def command(options: RecipeOptions, as_json: bool) -> None:
    """Show the steps of a recipe without running them.

    RECIPE is a file or the name of a built-in recipe [default: embedded]. Counts are upper bounds: a step may drop
    answers, which later steps then do not receive. Makes the checks of `tutelage run`, except those that need the hub.
    If only services are not available, the plan is printed before the problems.
    """
    checked = preflight(options.recipe, options.registry, options.directory, download=False)
    for notice in checked.notices:
        print_status(notice)
    plan = checked.planned
    expected = estimates(plan, options.recipe, options.registry)
    if as_json:
        print_line(json.dumps(plan_values(options.recipe.name, plan, expected), indent=2))
        checked.passed()
        return
    print_line(f"{options.recipe.name}: {len(plan.steps)} steps, {len(plan.models)} models, in {options.directory}")
    for folder, steps in groupby(plan.steps, key=_folder):
        print_line()
        print_table(_steps_table(folder, list(steps)))
    print_line()
    print_table(_totals_table(plan))
    if expected:
        print_line()
        print_table(_cost_table(expected))
    checked.passed()


def plan_values(recipe: str, plan: Plan, expected: Sequence[Estimate] = ()) -> dict[str, Any]:
    """Return a plan and its expected API usage as values for JSON."""
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


def _steps_table(folder: str, steps: list[Step]) -> Table:
    def short(path: str) -> str:
        return path.removeprefix(f"{folder}/")

    rows = [
        (step.stage, worker(step), short(step.output), _count(step), ", ".join(map(short, step.inputs)))
        for step in steps
    ]
    columns = ("stage", "model", "output", "count", "inputs")
    return Table(columns, rows, folder or "results", left=frozenset({"model", "output", "inputs"}))


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
            "unknown" if line.cost is None else f"${line.cost:,.2f}",
        )
        for line in expected
    ]
    known = sum(line.cost for line in expected if line.cost is not None)
    unknown = " plus unknown costs" if any(line.cost is None for line in expected) else ""
    columns = ("stage", "role", "model", "calls", "tokens in", "tokens out", "tokens", "cost")
    return Table(columns, rows, f"services: ${known:,.2f}{unknown}", left=frozenset({"role", "model", "tokens"}))


def _totals_table(plan: Plan) -> Table:
    rows = [(stage, role, f"{count:,}", unit) for (stage, role, unit), count in _totals(plan)]
    return Table(("stage", "role", "count", "unit"), rows, "total", left=frozenset({"role", "unit"}))
