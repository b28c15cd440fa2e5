"""The environment of a child process, and the end of its log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO

_TAIL_LINES = 20


def environment() -> Mapping[str, str]:
    """Return the environment of a child: one thread per process, unless the user sets another number.

    Several processes with many threads each would compete for the same cores.
    """
    return {"OMP_NUM_THREADS": "1", **os.environ}


def last_lines(log: IO[bytes]) -> list[str]:
    """Return the last lines of a log."""
    log.seek(0)
    return log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
