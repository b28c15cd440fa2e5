"""Read the libraries of a training from the disk while a run is checked.

On a machine that has not used them yet, the imports of torch, transformers, TRL and PEFT wait for the disk most of the
time. A process of its own imports them once, so that their files are in the system's memory when the first training
imports them. It is no thread, because threads that import the same packages may see a module that is not complete.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from contextlib import suppress

from tutelage_transformers.processes.child import environment, own_session

_IMPORT = "from tutelage_transformers.training import trainers; trainers.import_all()"

_readers: list[subprocess.Popen[bytes]] = []
"""The process that was started, or nothing."""


def start() -> None:
    """Start the process, unless it was started or this process has imported the libraries. Does not wait for it.

    An error of the start or of the imports is ignored: the training raises it if it needs them.
    """
    if _readers or "trl" in sys.modules:
        return
    none = subprocess.DEVNULL
    command = [sys.executable, "-P", "-c", _IMPORT]  # -P: no modules from the current folder
    with suppress(OSError):
        reader = subprocess.Popen(command, stdin=none, stdout=none, stderr=none, env=environment(), **own_session())
        _readers.append(reader)
        atexit.register(end)


def end() -> None:
    """End the process, if it runs."""
    while _readers:
        process = _readers.pop()
        process.kill()
        process.wait()
