"""The check of the plugin: the interpreter of the server and vLLM in it, or the program of another command."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tutelage import Finding, RunNeeds
from tutelage_vllm.settings import SAFE_PATH, VllmSettings, interpreter

_HAS_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
_SECONDS = 30.0


def check_run(settings: VllmSettings | None, name: str, needs: RunNeeds) -> Iterator[Finding]:
    """Yield the findings of ``check``. The student's own plugin checks the weights."""
    return check(settings, name)


def check(settings: VllmSettings | None, name: str) -> Iterator[Finding]:
    """Yield one finding on the program that would serve the weights. Nothing is loaded."""
    settings = settings or VllmSettings()
    python = interpreter(settings)
    if settings.command:
        program = settings.command[0].replace("{python}", python)
        found = shutil.which(program)
        if found is None:
            yield Finding("server", False, f"settings.command: no program {program!r}; give its path")
            return
        parts = (*settings.command, *settings.arguments)
        missing = [name for name in ("{folder}", "{port}") if not any(name in part for part in parts)]
        if missing:
            yield Finding(
                "server",
                False,
                f"settings.command: {' and '.join(missing)} missing; the server gets the folder of the model as "
                "{folder} and has to answer at {port} of 127.0.0.1",
            )
            return
        yield Finding("server", True, found)
        return
    if shutil.which(python) is None:
        yield Finding("server", False, f"settings.python: no program {python!r}; give the path of an interpreter")
        return
    if not _has_vllm(python):
        yield Finding(
            "server",
            False,
            f"settings.python: {python} has no vllm; install it there, or set python to an interpreter that has it, "
            "or command to that of another server",
        )
        return
    yield Finding("server", True, f"vllm in {Path(python)}")


def _has_vllm(python: str) -> bool:
    command = [python, "-c", _HAS_VLLM]
    try:
        done = subprocess.run(command, env={**os.environ, **SAFE_PATH}, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
