"""Python processes that are started find the modules that this process finds, and no other ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, subprocess, sys
from tutelage.child_processes import python_environment
sys.path.append("added")
print(*map(os.path.abspath, sys.path), sep=os.pathsep, flush=True)
subprocess.run([sys.executable, "-m", "probe"], env=python_environment(), check=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a program, and others with the module that it runs."""
    for name in ("here", "elsewhere", "named", "here/added"):
        (tmp_path / name).mkdir()
    for name in ("here", "elsewhere"):
        (tmp_path / name / "program.py").write_text(PROGRAM)
    (tmp_path / "named/probe.py").write_text("import os, sys; print(*sys.path, sep=os.pathsep)")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("../elsewhere/program.py",), "elsewhere"),
        (("-m", "program"), "here"),
        (("-c", PROGRAM), "here"),
        (("-P", "../elsewhere/program.py"), "named"),
    ],
    ids=["a script, as the command tutelage", "-m", "-c", "a safe path"],
)
def test_a_child_has_the_path_of_its_parent_whichever_way_that_was_started(
    folder: Path, command: tuple[str, ...], first: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["../named", str(Path(__file__).parents[2] / "core")])}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder / "here", env=environment, capture_output=True, text=True, check=True
    )
    own, of_child = (line.split(os.pathsep) for line in done.stdout.splitlines())
    assert own[0] == str(folder / first)
    assert own[-1] == str(folder / "here/added")
    assert of_child == own
