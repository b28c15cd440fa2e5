"""The embedded run: its time and memory, and the results of each pipeline on five seeds not used for tuning."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.prove.command import measure, run

METRICS = ("gold_score", "gold_exact")


def prove_one_seed() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) / "run"
    finished = measure("run", "embedded", "--run", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    table = run("run", "embedded", "--run", str(folder)).output
    shutil.rmtree(folder.parent)
    return {
        "output": table.replace(str(folder), "runs/demo"),
        "wall_seconds": round(finished.wall_seconds, 1),
        "cpu_seconds": round(finished.cpu_seconds, 1),
        "peak_mib": round(finished.peak_mib),
        "models": {model["id"]: model["metrics"]["gold_score"]["value"] for model in summary["models"]},
    }


def prove_seeds() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) / "run"
    finished = run("run", "embedded-seeds", "--run", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    shutil.rmtree(folder.parent)
    models = [model for model in summary["models"] if model["seed"] is None]
    differences = [row for row in summary["differences"] if row["seed"] is None]
    return {
        "wall_seconds": round(finished.wall_seconds, 1),
        "seeds": summary["seeds"],
        "models": {model["id"]: {name: model["metrics"][name] for name in METRICS} for model in models},
        "differences": [
            {"left": row["left"], "right": row["right"], **{name: row["metrics"][name] for name in METRICS}}
            for row in differences
        ],
    }
