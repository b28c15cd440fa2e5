"""Run the ``tutelage`` command as a user does, and measure it with the accounting of the operating system."""

import os
import subprocess
import sys
import time
from pathlib import Path

from attrs import frozen

SHORT = (
    "embedded",
    *("--set", "iterations=1"),
    *("--set", "data.prompts.count=96"),
    *("--set", "evaluation.prompts.count=40"),
    *("--set", "evaluation.agreement_prompts=20"),
    *("--set", "sft.epochs=1"),
)
"""The embedded recipe with one round and fewer items: every kind of step, for runs that are made 40 times."""
TUTELAGE = str(Path(sys.executable).with_name("tutelage"))


@frozen
class Finished:
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run(*arguments: str) -> Finished:
    """Run ``tutelage`` and return its output. If it fails, exit with its error output."""
    started = time.monotonic()
    process = subprocess.Popen([TUTELAGE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.communicate()
    wall = time.monotonic() - started
    if process.returncode:
        sys.exit(f"tutelage {' '.join(arguments)} exited with {process.returncode}:\n{errors}")
    return Finished(wall, 0.0, 0.0, output)


def measure(*arguments: str) -> Finished:
    """Run ``tutelage`` and return the processor time and the peak memory of this process."""
    started = time.monotonic()
    pid = os.posix_spawn(TUTELAGE, [TUTELAGE, *arguments], os.environ, file_actions=_discard_output())
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"tutelage {' '.join(arguments)} exited with status {os.waitstatus_to_exitcode(status)}")
    return Finished(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, "")


def _discard_output() -> list[tuple[int, int, str, int, int]]:
    return [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
