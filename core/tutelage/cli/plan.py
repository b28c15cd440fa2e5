"""``tutelage plan``: the steps of a recipe, their inputs, outputs and counts. Nothing is run and nothing written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import click
from attrs import asdict

from tutelage.cli.options import Chosen, as_json, recipe_options
from tutelage.cli.output import Table, say, show
from tutelage.planning.checks import checked_plan
from tutelage.planning.estimate import Estimate, estimates
from tutelage.planning.lengths import check_lengths
from tutelage.planning.steps import Plan, Step
from tutelage.results.wording import worker


@click.command("plan")
@recipe_options
@as_json
def command(chosen: Chosen, as_json: bool) -> None:
    """Show the steps of a recipe, running nothing.

    RECIPE is a file or the name of a built-in recipe, embedded by default. A count is an upper bound where answers may
    be dropped on the way.
    """
    plan = checked_plan(chosen.recipe, chosen.registry)
    check_lengths(chosen.recipe, chosen.registry, download=False)
    expected = estimates(plan, chosen.recipe, chosen.registry)
    if as_json:
        say(json.dumps(plan_values(chosen.recipe.name, plan, expected), indent=2))
        return
    say(f"{chosen.recipe.name}: {len(plan.steps)} steps, {len(plan.models)} models, in {chosen.directory}")
    for folder, steps in groupby(plan.steps, key=_folder):
        say()
        show(_steps_table(folder, list(steps)))
    say()
    show(_totals_table(plan))
    if expected:
        say()
        show(_cost_table(expected))


def plan_values(recipe: str, plan: Plan, expected: Sequence[Estimate] = ()) -> dict[str, Any]:
    """A plan as plain values."""
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
    """The group of a step: the model's folder in which its artifact lies."""
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
    """(stage, role, unit) and how many items in all."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for step in plan.steps:
        working = getattr(step, "worker", None) or getattr(step, "start", None)
        counts[step.stage, working.role if working else "", step.unit] += step.count
    yield from counts.items()


def _cost_table(expected: list[Estimate]) -> Table:
    """What the services will cost; a price that is not known is said to be so."""
    rows = [
        (
            line.stage,
            line.role,
            line.model,
            f"{line.calls:,}",
            f"{line.input_tokens:,}",
            f"{line.output_tokens:,}",
            "as seen" if line.seen else "guessed",
            "unknown" if line.cost is None else f"${line.cost:,.2f}",
        )
        for line in expected
    ]
    known = sum(line.cost for line in expected if line.cost is not None)
    unknown = " and what is unknown" if any(line.cost is None for line in expected) else ""
    columns = ("stage", "role", "model", "calls", "tokens in", "tokens out", "tokens", "cost")
    return Table(columns, rows, f"services: ${known:,.2f}{unknown}", left=frozenset({"role", "model", "tokens"}))


def _totals_table(plan: Plan) -> Table:
    rows = [(stage, role, f"{count:,}", unit) for (stage, role, unit), count in _totals(plan)]
    return Table(("stage", "role", "count", "unit"), rows, "in all", left=frozenset({"role", "unit"}))
