"""Kill twenty embedded runs at random moments and continue them. Their summaries must equal that of an unkilled run."""

import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.prove.command import TUTELAGE, measure

KILLS = 20


def prove(kills: int = KILLS, seed: int = 0) -> dict[str, Any]:
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp())
    undisturbed = measure("run", "embedded", "--run", str(root / "undisturbed"))
    expected = (root / "undisturbed" / "summary.json").read_bytes()
    moments, same = [], 0
    for number in range(kills):
        folder = root / f"killed-{number}"
        moment = draw.uniform(0.5, undisturbed.wall_seconds * 0.98)
        _run_and_kill(folder, moment)
        measure("run", "embedded", "--run", str(folder))
        equal = (folder / "summary.json").read_bytes() == expected
        same += equal
        moments.append(round(moment, 1))
        print(f"killed after {moment:.1f} s: {'the same summary' if equal else 'A DIFFERENT SUMMARY'}", flush=True)
        if equal:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return {"kills": kills, "same_summary": same, "killed_after_seconds": moments}


def _run_and_kill(folder: Path, moment: float) -> None:
    command = [TUTELAGE, "run", "embedded", "--run", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    process.kill()
    process.wait()
