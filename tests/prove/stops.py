"""Stop short embedded runs by SIGTERM and SIGHUP at random moments and continue them.

All artifacts must equal those of a run that was not stopped, byte for byte.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from interrupted_runs import artifacts_of, continue_command, default_signals
from tests.prove.command import SHORT, TUTELAGE, measure

STOPS = 20
SIGNALS = ("SIGTERM", "SIGHUP")


def prove(stops: int = STOPS, seed: int = 0) -> dict[str, Any]:
    root = Path(tempfile.mkdtemp())
    undisturbed = measure("run", *SHORT, "--run", str(root / "undisturbed"))
    expected = artifacts_of(root / "undisturbed")
    found = {
        name.lower(): _stopped_by(
            name, root, undisturbed.wall_seconds, expected, stops, random.Random(f"{name} {seed}")
        )
        for name in SIGNALS
    }
    shutil.rmtree(root, ignore_errors=True)
    return {"stops_by_each": stops, **found}


def _stopped_by(
    name: str, root: Path, seconds: float, expected: dict[str, bytes], stops: int, draw: random.Random
) -> dict[str, Any]:
    moments, waits, same, stopped = [], [], 0, 0
    for number in range(stops):
        folder = root / f"{name}-{number}"
        moment = draw.uniform(0.5, seconds * 0.95)
        code, errors, waited = _run_and_stop(folder, moment, getattr(signal, name))
        is_over = code == -getattr(signal, name) and (folder / "summary.json").exists()  # while Python shuts down
        if "Traceback" in errors or not (code in (0, 130) or is_over):
            sys.exit(f"{name} after {moment:.1f} s: exit code {code}\n{errors}")
        if code == 130:
            stopped += 1
            # before the run has begun, the message names no command
            _, *arguments = (
                continue_command(errors) if "continue with" in errors else ["", "run", *SHORT, "--run", str(folder)]
            )
            measure(*arguments)
        equal = artifacts_of(folder) == expected
        same += equal
        moments.append(round(moment, 1))
        waits.append(round(waited, 1))
        print(f"{name} after {moment:.1f} s: {'the same artifacts' if equal else 'OTHER ARTIFACTS'}", flush=True)
        if equal:
            shutil.rmtree(folder, ignore_errors=True)
    return {"stopped": stopped, "same_artifacts": same, "after_seconds": moments, "longest_wait_seconds": max(waits)}


def _run_and_stop(folder: Path, moment: float, number: signal.Signals) -> tuple[int, str, float]:
    """Start a run and send it a signal. Returns its exit code, its error output and how long it still worked."""
    command = [TUTELAGE, "run", *SHORT, "--run", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=default_signals
    )
    time.sleep(moment)
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors, time.monotonic() - sent
