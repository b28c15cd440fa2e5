"""The command line works on a platform without POSIX modules, signals and calls, such as Windows: these are hidden."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

HIDDEN = """
import os, signal, sys
for name in ("fcntl", "resource", "termios", "tty", "pty", "grp", "pwd"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1"):
    delattr(signal, name)
for name in ("killpg", "setsid", "getuid", "geteuid", "sched_getaffinity", "statvfs", "sysconf"):
    delattr(os, name)
from tutelage.cli import main
main()
"""
Tutelage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def without_posix(numbers_distribution: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tutelage:
    """Call the command line in a process in which POSIX-only modules and calls are missing."""
    monkeypatch.setenv("PYTHONPATH", str(numbers_distribution))

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", HIDDEN, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


def test_help_plan_run_and_status(
    without_posix: Tutelage, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> None:
    recipe = recipe_file(**small)
    for arguments in (["--help"], ["plan", recipe], ["doctor", "--help"], ["recipes"], ["plugins"]):
        found = without_posix(*arguments)
        assert found.returncode == 0, (arguments, found.stderr)
        assert "Traceback" not in found.stderr
    done = without_posix("run", recipe, "--run", "here", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "here/summary.json").read_text())["schema"] == 1
    status = without_posix("status", "here")
    assert status.returncode == 0
    assert status.stdout.splitlines()[-1] == "the run is finished"
    assert not list((tmp_path / "here").glob(".lock.marker*"))


def test_a_second_process_on_a_run_is_refused(
    without_posix: Tutelage,
    invoke: Callable[..., Result],
    recipe_file: Callable[..., Path],
    small: dict[str, Any],
    tmp_path: Path,
) -> None:
    assert invoke("run", recipe_file(**small), "--run", "here", "--quiet").exit_code == 0
    hold = "import sys; sys.modules['fcntl'] = None\nfrom pathlib import Path\nfrom tutelage.runs.store import Store\n"
    hold += "with Store(Path('here')).lock(): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (tmp_path / "here/summary.json").unlink()
        refused = without_posix("run", "--run", "here", "--quiet")
        assert refused.returncode == 4
        assert f"process {holder.pid} is working on this run" in refused.stderr
        status = without_posix("status", "here").stdout
        assert status.splitlines()[-1] == f"process {holder.pid} is working on the run"
        holder.kill()
    assert without_posix("run", "--run", "here", "--quiet").returncode == 0
