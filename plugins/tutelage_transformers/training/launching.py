"""Training in several processes: asked for by a file, started by torchrun or by the user's own accelerate config.

The processes are started anew for each training. They tell of their steps in a file, and none outlives this process:
each waits for a lock that this one holds as long as it lives.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tutelage.context import Context
from tutelage.errors import InputError, StageError, TutelageError
from tutelage_transformers.processes.child import environment, last_words
from tutelage_transformers.settings import TransformersSettings
from tutelage_transformers.training.request import ALIVE, STOP, TOLD, Request, failures, told

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 30.0
"""For the launcher to end its processes before it is killed: what torchrun gives to them."""
WORKER = "tutelage_transformers.training.worker"


def launch(request: Request, processes: int, context: Context) -> None:
    """Train in ``processes`` processes, or as many as the accelerate config of the settings says, and wait for the end.

    Raises what a process raised of the errors of ``tutelage.errors``, and ``StageError`` with the last lines of the
    log for any other failure.
    """
    command = _command(request.settings, processes)
    with tempfile.TemporaryDirectory(prefix="request-", dir=context.scratch) as name:
        folder = Path(name)
        request.write(folder)
        with (folder / "log.txt").open("w+b") as log:
            status = _follow([*command, "-m", WORKER, str(folder)], folder, log, context)
            if status:
                raise _error(folder, log, status)


def _command(settings: TransformersSettings, processes: int) -> list[str]:
    if settings.accelerate_config is None:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return accelerate(settings.accelerate_config)


def accelerate(config: str) -> list[str]:
    """The command that launches by the user's accelerate config. Raises ``InputError`` where it is not there."""
    file = Path(config).expanduser()
    if not file.is_file():
        raise InputError(
            f"plugin transformers, settings.accelerate_config: {file}: no such file; `accelerate config` makes one"
        )
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]


def _follow(command: list[str], folder: Path, log: IO[bytes], context: Context) -> int:
    """Run the command to its end and pass on what its processes tell; returns its exit status."""
    tell: Mapping[str, Callable[[Any], None]] = {
        "expect": context.expect,
        "advance": context.advance,
        "log": context.log,
    }
    (folder / TOLD).touch()
    with (folder / TOLD).open(encoding="utf-8") as lines, _alive(folder), _running(command, log) as launcher:
        while True:
            status = launcher.poll()
            for function, value in _new(lines):  # once more after the end: the last words
                tell[function](value)
            if status is not None:
                return status
            if context.cancelled():
                (folder / STOP).touch()
            time.sleep(_POLL_SECONDS)


@contextmanager
def _running(command: list[str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher of the processes; where it still runs at the end, it is ended, and they with it.

    It has a session of its own: Ctrl-C is this process's to answer.
    """
    launcher = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
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
    with (folder / ALIVE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _new(lines: IO[str]) -> Iterator[tuple[str, object]]:
    """What has been told since the last time; a line that is half written is left for the next."""
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(place)
            return
        yield told(line)


def _error(folder: Path, log: IO[bytes], status: int) -> TutelageError:
    """One error for the user: what a process said of itself, else the end of what all of them wrote."""
    for failure in failures(folder):
        return failure.error("training in several processes")
    words = last_words(log)
    return StageError("\n".join([f"training in several processes ended with status {status}; its last words:", *words]))
