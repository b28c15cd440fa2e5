"""Training by the kept worker processes, seen from this process; ``member`` is what each of them does.

They have imported torch, transformers and TRL before, or do so once per run. The first process sends its progress back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tutelage.context import Context
from tutelage_transformers.processes import pool
from tutelage_transformers.training.request import TrainingRequest, reports_of

MEMBER, PREPARE = (f"tutelage_transformers.training.member:{name}" for name in ("take_part", "prepare"))


def start_ahead(devices: Sequence[str]) -> None:
    """Start the kept processes of these devices, and let them import what trainings need. Does not wait for them."""
    pool.kept(devices).post(PREPARE, dict.fromkeys(range(len(devices))))


def train(request: TrainingRequest, devices: Sequence[str], processes: int, context: Context) -> None:
    """Train in the first ``processes`` of the kept processes of all ``devices``, and wait.

    Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` with the last lines of its log
    for any other failure. All processes are ended then.
    """
    workers = pool.kept(devices)
    report = reports_of(context)
    with tempfile.TemporaryDirectory(prefix="tutelage-group-") as folder:
        group = {"request": request.as_json(), "processes": processes, "store": str(Path(folder, "store"))}
        arguments = {rank: {**group, "rank": rank} for rank in range(processes)}
        try:
            for _, (name, value) in workers.run(MEMBER, arguments, "training in several processes", context.cancelled):
                report[name](value)
        except BaseException:
            workers.close()  # a process that does not fail waits for one that did
            raise
