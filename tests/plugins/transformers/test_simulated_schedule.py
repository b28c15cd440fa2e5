"""The schedule of several workers, simulated by workers that sleep (``tests/bench/bench_scaling.py --simulate``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "bench_scaling.py"


def test_the_simulated_schedule_answers_every_item_by_sleeping_workers() -> None:
    """The script failed when a check of the student's folder was added, and its worker once replaced an unused name."""
    command = [sys.executable, str(SCRIPT), "--simulate", "--devices", "2", "--prompts", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["stage"], row["results"]) for row in rows] == [("candidates", 24), ("judgements", 24)]
    assert all(row["busy"] > 0.1 for row in rows)
