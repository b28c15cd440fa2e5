"""Let the disk become full at random writes of short embedded runs, and continue them.

Each run must end with one error and exit code 6 (2 before its first step; 0 if only the page was not written), and the
continued run with the artifacts of a run that was not disturbed, byte for byte.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from full_disk import PROBLEM
from interrupted_runs import artifacts_of
from tests.prove.command import SHORT, measure

WRITES = 40
RECIPE = (*SHORT, "--set", "controls=null", "--set", "evaluation=null")
PROGRAM = Path(__file__).parents[1] / "fixtures/full_disk.py"


def prove(writes: int = WRITES, seed: int = 0) -> dict[str, Any]:
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp())
    code, errors = _run(root, root / "undisturbed", "never")
    if code:
        sys.exit(errors)
    every = int((root / "count").read_text())
    expected = artifacts_of(root / "undisturbed")
    codes: Counter[int] = Counter()
    same = 0
    for number in range(writes):
        folder, after = root / f"full-{number}", draw.randrange(every)
        code, errors = _run(root, folder, str(after))
        begin = "error: " if code else "the report was not written: "
        told = [line for line in errors.splitlines() if line.startswith(begin)]
        if code not in (0, 2, 6) or "Traceback" in errors or len(told) != 1 or PROBLEM not in told[0]:
            sys.exit(f"full after {after} of {every} writes: exit code {code}\n{errors}")
        codes[code] += 1
        measure("run", *RECIPE, "--run", str(folder))
        equal = artifacts_of(folder) == expected
        same += equal
        print(
            f"full after {after} of {every} writes: {'the same artifacts' if equal else 'OTHER ARTIFACTS'}", flush=True
        )
        if equal:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return {
        "writes_of_a_run": every,
        "failed_writes": writes,
        "same_artifacts": same,
        "exit_codes": {str(code): count for code, count in sorted(codes.items())},
    }


def _run(root: Path, folder: Path, after: str) -> tuple[int, str]:
    program = [sys.executable, str(PROGRAM), "--weights", str(folder), after, str(root / "count")]
    command = [*program, "run", *RECIPE, "--run", str(folder)]
    found = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return found.returncode, found.stderr
