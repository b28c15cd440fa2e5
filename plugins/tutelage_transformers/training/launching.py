"""Training by the user's accelerate config: described by a file, started by accelerate's launcher.

The processes are started anew for each training. They report their steps in a file. Each waits for a lock that this
process holds, so none outlives it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tutelage.child_processes import python_command, python_script
from tutelage.context import Context
from tutelage.errors import InputError, StageError, TutelageError
from tutelage.files.locking import hold_lock
from tutelage_transformers.processes.child import environment, last_lines, own_session
from tutelage_transformers.training.request import (
    ALIVE,
    PROGRESS,
    STOP,
    TrainingRequest,
    failures,
    progress_of,
    reports_of,
)

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 30.0
"""Time that the launcher has to end its processes before it is killed; it gives them as long."""
WORKER = "tutelage_transformers.training.worker"


def launch(request: TrainingRequest, config: str, context: Context) -> None:
    """Train in the processes that the accelerate config names, and wait.

    Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` with the last lines of the
    log for any other failure.
    """
    command = accelerate(config)
    with tempfile.TemporaryDirectory(prefix="request-", dir=request.scratch) as name:
        folder = Path(name)
        request.write(folder)
        with (folder / "log.txt").open("w+b") as log:
            status = _follow([*command, *python_script(WORKER, str(folder))], folder, log, context)
            if status:
                raise _error(folder, log, status)


def accelerate(config: str) -> list[str]:
    """Return the command that launches by an accelerate config. Raises ``InputError`` if the file is missing."""
    file = Path(config).expanduser()
    if not file.is_file():
        raise InputError(
            f"plugin transformers, settings.accelerate_config: {file}: no such file; `accelerate config` makes one"
        )
    return python_command("accelerate.commands.launch", "--config_file", str(file))


def _follow(command: list[str], folder: Path, log: IO[bytes], context: Context) -> int:
    """Run the command to its end and pass its progress to the context; returns its exit status."""
    report = reports_of(context)
    (folder / PROGRESS).touch()
    with (folder / PROGRESS).open(encoding="utf-8") as lines, _alive(folder), running(command, log) as launcher:
        while True:
            status = launcher.poll()
            for function, value in _new(lines):  # once more after the end, for the last lines
                report[function](value)
            if status is not None:
                return status
            if context.cancelled():
                (folder / STOP).touch()
            time.sleep(_POLL_SECONDS)


@contextmanager
def running(command: list[str], log: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start the launcher of the processes; at the end it is terminated, if it still runs, and its processes with it.

    ``log`` receives their output; by default it goes to that of this process.

    Ctrl-C and the end of the terminal reach this process alone.
    """
    launcher = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), **own_session()
    )
    try:
        yield launcher
    finally:
        launcher.terminate()
        try:
            launcher.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()


@contextmanager
def _alive(folder: Path) -> Iterator[None]:
    with hold_lock(folder / ALIVE):
        yield


def _new(lines: IO[str]) -> Iterator[tuple[str, object]]:
    """Yield what was reported since the last call; an incomplete line is left for the next call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield progress_of(line)


def _error(folder: Path, log: IO[bytes], status: int) -> TutelageError:
    """Return one error for the user: that of a process, else the end of the log of all processes."""
    for failure in failures(folder):
        return failure.error("training in several processes")
    message = f"training in several processes ended with status {status}; the last lines of its log:"
    return StageError("\n".join([message, *last_lines(log)]))
