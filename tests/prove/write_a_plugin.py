"""The page "Write a plugin", followed in an empty folder and a new environment with a wheel of tutelage."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from tests.prove.command import follow
from tests.prove.commands_of_pages import PLUGIN_PAGE, ROOT, followed
from tests.prove.embedded import gains_over_m1

from tutelage.report.contents import read_contents

GOAL = "tutelage run small.yaml"
"""The command with which the teacher has passed the kit and runs in ``teacher-reward``."""


def prove() -> dict[str, Any]:
    """Follow the page. Exits with the output of the first command that fails or prints something else."""
    work = Path(tempfile.mkdtemp())
    folder = work / "plugin"
    folder.mkdir()
    _make_environment(work / "venv")
    outside = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment = {**outside, "TUTELAGE_CACHE": str(work / "cache"), "COLUMNS": "120"}
    commands: list[dict[str, Any]] = []
    before = _processor_seconds()
    for one in followed(PLUGIN_PAGE):
        started = time.monotonic()
        output = follow(one, folder, environment, f"source {work}/venv/bin/activate\n")
        if not one.prints(output):
            sys.exit(f"{one.title}: the page shows\n{one.output}\nand it printed\n{output}")
        commands.append({"command": one.title, "seconds": round(time.monotonic() - started, 1)})
        print(json.dumps(commands[-1]), flush=True)
    gain = gains_over_m1(read_contents(folder / "runs/words"))["M2/teacher-reward"]
    shutil.rmtree(work)
    seconds = [one["seconds"] for one in commands]
    reached = [one["command"] for one in commands].index(GOAL) + 1
    return {
        "commands": commands,
        "seconds_to_the_run": round(sum(seconds[:reached]), 1),
        "seconds_of_commands": round(sum(seconds), 1),
        "cpu_seconds_of_commands": round(_processor_seconds() - before, 1),
        "gain": gain,
    }


def _processor_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _make_environment(folder: Path) -> None:
    """Install the wheel into a new environment, which borrows the libraries of this one."""
    venv.create(folder, with_pip=True)
    [packages] = folder.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--ignore-installed", str(ROOT)], check=True)
