"""Training by the kept worker processes, seen from this process; ``member`` is what each of them does.

They have imported torch, transformers and TRL before, or do so once per run. The first process sends its progress back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from tutelage.context import Context
from tutelage_transformers.processes import pool
from tutelage_transformers.training.request import TrainingRequest, reports_of

MEMBER, PREPARE = (f"tutelage_transformers.training.member:{name}" for name in ("take_part", "prepare"))


def start_ahead(devices: Sequence[str], processes: int) -> None:
    """Start the kept processes of these devices, and let them prepare for a training by the first ``processes``.

    Does not wait for them.
    """
    workers = pool.kept(devices)
    workers.post(PREPARE, _groups(workers, processes))


def train(request: TrainingRequest, devices: Sequence[str], processes: int, context: Context) -> None:
    """Train in the first ``processes`` of the kept processes of all ``devices``, and wait.

    Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` with the last lines of its log
    for any other failure. All processes are ended then.
    """
    workers = pool.kept(devices)
    report = reports_of(context)
    training = request.as_json()
    arguments = {rank: {"request": training, "group": one} for rank, one in _groups(workers, processes).items()}
    try:
        for _, (name, value) in workers.run(MEMBER, arguments, "training in several processes", context.cancelled):
            report[name](value)
    except BaseException:
        workers.close()  # a process that does not fail waits for one that did
        raise


def _groups(workers: pool.WorkerPool, processes: int) -> dict[int, dict[str, Any]]:
    """Return the arguments of ``group.join`` for each process."""
    store = str(workers.folder / f"group-{uuid4().hex}")
    return {
        rank: {"rank": rank, "processes": processes, "device": device, "store": store}
        for rank, device in enumerate(workers.devices)
    }
