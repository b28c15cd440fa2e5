"""How a child process is started, and the end of its output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO

_TAIL_LINES = 20


def environment() -> Mapping[str, str]:
    """One thread a process, unless the user says otherwise: several would fight for the same cores."""
    return {"OMP_NUM_THREADS": "1", **os.environ}


def last_lines(log: IO[bytes]) -> list[str]:
    """The last lines of what a process wrote."""
    log.seek(0)
    return log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
