"""What the tests of the plugin share: the stand-in for vLLM's server, and processes that end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage import Context
from tutelage_vllm.settings import VllmSettings

STAND_IN = Path(__file__).with_name("stand_in.py")


def command(*options: str) -> tuple[str, ...]:
    """The setting ``command`` that starts the stand-in."""
    return (sys.executable, str(STAND_IN), "{folder}", "{port}", *options)


def context_with(*options: str, **settings: Any) -> Context:
    """A context whose settings start the stand-in with these options."""
    return Context(settings=VllmSettings(command=command(*options), start_seconds=120.0, **settings))


def is_gone(pid: int, seconds: float = 20.0) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True  # ended, and not waited for yet
        time.sleep(0.05)
    return False


def bodies(seen: Path) -> list[dict[str, Any]]:
    """The requests that the stand-in has noted."""
    return [json.loads(line) for line in seen.read_text().splitlines()]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)
