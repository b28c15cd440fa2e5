"""Runs a server in a process group of its own, and ends the group when the parent process ends, in whichever way.

It is started as a script, with the parent's process id and the command as arguments. A parent that is killed cannot end
its server. Therefore this process looks at regular intervals whether its parent has changed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

_POLL_SECONDS = 0.2
_TERMINATE_SECONDS = 10.0
"""Time between SIGTERM and SIGKILL."""


class _Stop(Exception):
    """Raised by the handler of SIGTERM."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def main(parent: int, command: list[str]) -> int:
    """Run ``command`` until it ends, the process ``parent`` ends, or SIGTERM arrives. Returns its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        while os.getppid() == parent and server.poll() is None:
            time.sleep(_POLL_SECONDS)
    except _Stop:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if server.poll() is None:
        _end(server)
    _signal_group(server.pid, signal.SIGKILL)  # processes that the server has started
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _end(server: subprocess.Popen[bytes]) -> None:
    _signal_group(server.pid, signal.SIGTERM)
    try:
        server.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(server.pid, signal.SIGKILL)
        server.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # no process of the group is left
        return


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
