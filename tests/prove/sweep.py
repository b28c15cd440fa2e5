"""A sweep of four losses and two betas: the shared steps are done once, the other steps eight times."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from tests.prove.command import measure, run

GRID = {"dpo.loss_type": ["sigmoid", "ipo", "hinge", "apo_zero"], "dpo.beta": [2.0, 1.0]}
ONE_PIPELINE = {
    "iterations": 1,
    "controls": None,
    "pipelines": {"teacher-reward": None, "teacher-demonstration": None},
}


def prove() -> dict[str, Any]:
    root = Path(tempfile.mkdtemp())
    found = {"whole": _sweep(root / "whole", {}), "one_pipeline": _sweep(root / "one", ONE_PIPELINE)}
    shutil.rmtree(root)
    return found


def _sweep(root: Path, changes: dict[str, Any]) -> dict[str, Any]:
    root.mkdir()
    for name, grid in (("alone", {}), ("sweep", GRID)):
        (root / f"{name}.yaml").write_text(
            yaml.safe_dump({"extends": "embedded", "name": name, **changes, "grid": grid})
        )
    alone = measure("run", str(root / "alone.yaml"), "--run", str(root / "alone"))
    whole = measure("run", str(root / "sweep.yaml"), "--run", str(root / "sweep"))
    table = run("run", str(root / "sweep.yaml"), "--run", str(root / "sweep")).output
    folders = [root / "sweep", *sorted((root / "sweep/variants").iterdir())]
    steps = [_steps(folder) for folder in folders]
    shared = {output for output in steps[0] if not any(output in one for one in steps[1:])}
    once = sum(steps[0][output] for output in shared)
    others = sum(seconds for output, seconds in steps[0].items() if output not in shared)
    total = sum(seconds for one in steps for seconds in one.values())
    return {
        "variants": len(folders),
        "trainings_of_m1": sum("seed-0/M1/checkpoint" in one for one in steps),
        "steps_shared": len(shared),
        "steps_of_each": len(steps[0]) - len(shared),
        "seconds_of_shared_steps": round(once, 1),
        "seconds_of_the_other_steps_once": round(others, 1),
        "seconds_of_all_steps": round(total, 1),
        "ratio_to_shared_and_eight_times_the_others": round(total / (once + len(folders) * others), 3),
        "wall_seconds": {"sweep": round(whole.wall_seconds, 1), "alone": round(alone.wall_seconds, 1)},
        "ratio_to_one_run": round(whole.wall_seconds / alone.wall_seconds, 2),
        "table": table[table.index("Variants, ranked") :].partition("\n\n")[0],
    }


def _steps(folder: Path) -> dict[str, float]:
    """The steps that a run did itself, with their seconds; those taken from elsewhere have none."""
    rows = (json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines())
    return {row["output"]: row["seconds"] for row in rows if row["seconds"]}
