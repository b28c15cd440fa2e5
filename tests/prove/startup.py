"""The processor time of ``tutelage --help``."""

from statistics import median
from typing import Any

from tests.prove.command import measure


def prove(runs: int = 11) -> dict[str, Any]:
    seconds = [measure("--help").cpu_seconds for _ in range(runs)]
    return {"help_cpu_seconds": {"median": round(median(seconds), 3), "max": round(max(seconds), 3), "runs": runs}}
