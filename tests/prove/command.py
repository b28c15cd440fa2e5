"""Run commands as a user does: those of ``tutelage``, measured by the operating system, and those of the pages."""

import os
import subprocess
import sys
import time
from pathlib import Path

from attrs import frozen
from tests.prove.commands_of_pages import Followed, command_of

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


def follow(one: Followed, folder: Path, environment: dict[str, str], before: str = "", stdin: str = "") -> str:
    """Write a file of a page, or run a command of it, after the command ``before``, in ``folder``. Returns the output.

    If the exit code is not the one that the page shows, exit with the output.
    """
    command = command_of(one.text)
    if one.kind == "file":
        (folder / one.name).write_text(one.text, encoding="utf-8")
        return ""
    if one.kind == "python":
        (folder / "program.py").write_text(one.text, encoding="utf-8")
        command = "python program.py"
    done = subprocess.run(
        ["bash", "-ec", before + command],
        cwd=folder,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != one.code:
        sys.exit(f"{command}: exited with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


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
