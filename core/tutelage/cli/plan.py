"""``tutelage plan``: the steps of a recipe, their inputs, outputs and counts. Nothing is run and nothing written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import click

from tutelage.checks import checked_plan
from tutelage.cli.options import Chosen, as_json, recipe_options
from tutelage.cli.output import Table, say, show
from tutelage.cli.wording import stage, worker
from tutelage.steps import Plan, Step


@click.command("plan")
@recipe_options
@as_json
def command(chosen: Chosen, as_json: bool) -> None:
    """Show the steps of a recipe, running nothing.

    RECIPE is a file or the name of a built-in recipe, embedded by default. A count is an upper bound where answers may
    be dropped on the way.
    """
    plan = checked_plan(chosen.recipe, chosen.registry)
    if as_json:
        say(json.dumps(plan_values(chosen.recipe.name, plan), indent=2))
        return
    say(f"{chosen.recipe.name}: {len(plan.steps)} steps, {len(plan.models)} models, in {chosen.directory}")
    for folder, steps in groupby(plan.steps, key=_folder):
        say()
        show(_steps_table(folder, list(steps)))
    say()
    show(_totals_table(plan))


def plan_values(recipe: str, plan: Plan) -> dict[str, Any]:
    """A plan as plain values."""
    return {
        "recipe": recipe,
        "models": [model.id for model in plan.models],
        "steps": [
            {
                "output": step.output,
                "stage": stage(step),
                "model": worker(step) or None,
                "inputs": list(step.inputs),
                "count": step.count,
                "unit": step.unit,
                "seed": step.seed,
            }
            for step in plan.steps
        ],
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
        (stage(step), worker(step), short(step.output), _count(step), ", ".join(map(short, step.inputs)))
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
        counts[stage(step), working.role if working else "", step.unit] += step.count
    yield from counts.items()


def _totals_table(plan: Plan) -> Table:
    rows = [(stage, role, f"{count:,}", unit) for (stage, role, unit), count in _totals(plan)]
    return Table(("stage", "role", "count", "unit"), rows, "in all", left=frozenset({"role", "unit"}))
