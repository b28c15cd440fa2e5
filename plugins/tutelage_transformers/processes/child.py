"""The environment of a child process, and the end of its log."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from typing import IO, Any

from tutelage.child_processes import python_environment

_TAIL_LINES = 20


def environment() -> Mapping[str, str]:
    """Return the environment of a child: its modules are those of this process, and it has one thread.

    The user may set another number of threads. Several processes with many threads each would compete for the same
    cores.
    """
    return {"OMP_NUM_THREADS": "1", **python_environment()}


def own_session() -> dict[str, Any]:
    """Return the arguments of ``Popen`` by which Ctrl-C and the end of the terminal reach the parent process alone."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def ignore_stop_signals() -> None:
    """Ignore the signals by which a run is stopped: they may reach all processes of a job, and the parent decides."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def last_lines(log: IO[bytes]) -> list[str]:
    """Return the last lines of a log."""
    log.seek(0)
    return log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
