"""Training by the kept worker processes: they form a process group for one training, and train by the same code.

They have imported torch, transformers and TRL before, or do so once per run. The first process sends its progress back.
accelerate keeps the state of a process group in singletons, and torch in environment variables: both are reset.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage_transformers.models import loading
from tutelage_transformers.processes import pool
from tutelage_transformers.processes.serving import Request
from tutelage_transformers.training import worker
from tutelage_transformers.training.request import TrainingRequest

MEMBER = "tutelage_transformers.training.together:take_part"
_TIMEOUT = timedelta(seconds=1800)
"""Time that a process waits for the others in one operation; the default of transformers."""


def train(request: TrainingRequest, devices: Sequence[str], processes: int, context: Context) -> None:
    """Train in the first ``processes`` of the kept processes of all ``devices``, and wait.

    Raises the error of a process if it is one of ``tutelage.errors``, and ``StageError`` with the last lines of its log
    for any other failure. All processes are ended then.
    """
    workers = pool.kept(devices)
    report: Mapping[str, Callable[[Any], None]] = {
        "expect": context.expect,
        "advance": context.advance,
        "log": context.log,
    }
    with tempfile.TemporaryDirectory(prefix="tutelage-group-") as folder:
        group = {"request": request.as_json(), "processes": processes, "store": str(Path(folder, "store"))}
        arguments = {rank: {**group, "rank": rank} for rank in range(processes)}
        try:
            for _, (name, value) in workers.run(MEMBER, arguments, "training in several processes", context.cancelled):
                report[name](value)
        except BaseException:
            workers.close()  # a process that does not fail waits for one that did
            raise


def take_part(arguments: Any, request: Request) -> None:
    """Do the part of one process in a training."""
    from accelerate.state import AcceleratorState, GradientState

    loading.release_all()
    rank, processes = int(arguments["rank"]), int(arguments["processes"])
    training = TrainingRequest.from_json(arguments["request"])
    context = Context(cancelled=request.cancelled)
    if rank == 0:
        report = partial(partial, _report, request)
        context = evolve(context, expect=report("expect"), advance=report("advance"), log=report("log"))
    with _rank_in_environment(rank, processes):
        _join_group(training, rank, processes, arguments["store"])
        worker.train_as_member(training, processes, context)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _report(request: Request, name: str, value: Any) -> None:
    """Send the argument of one of the functions of the parent's context."""
    request.send([name, value])


@contextmanager
def _rank_in_environment(rank: int, processes: int) -> Iterator[None]:
    """Set the variables by which torch's launcher describes a process; at the end, all variables are as before."""
    before = dict(os.environ)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in own.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _join_group(training: TrainingRequest, rank: int, processes: int, store: str) -> None:
    """Wait for the other processes and form a group with them. The file ``store`` is how they find each other."""
    import torch
    from torch import distributed

    from tutelage_transformers.devices.selection import device_of_rank

    device = torch.device(device_of_rank(training.settings))
    on_gpu = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=processes,
        timeout=_TIMEOUT,
        device_id=device if on_gpu else None,
    )
