"""One of the kept worker processes in a training that they do together.

They form a process group for the training. accelerate keeps the state of a group in singletons, and torch in
environment variables: both are reset at the end, so that the next training starts as in a new process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage_transformers.devices.selection import device_of_rank
from tutelage_transformers.models import loading
from tutelage_transformers.processes.serving import Job
from tutelage_transformers.training import trainers, worker
from tutelage_transformers.training.request import TrainingRequest

_TIMEOUT = timedelta(seconds=1800)
"""Time that a process waits for the others in one operation; the default of transformers."""


def prepare(arguments: Any, job: Job) -> None:
    """Import what trainings need, which takes seconds, before the first one."""
    trainers.import_all()


def take_part(arguments: Any, job: Job) -> None:
    """Do the part of one process in a training."""
    from accelerate.state import AcceleratorState, GradientState

    loading.release_all()
    rank, processes = int(arguments["rank"]), int(arguments["processes"])
    training = TrainingRequest.from_json(arguments["request"])
    context = Context(cancelled=job.cancelled, pair_losses=worker.pair_losses_of(training))
    if rank == 0:
        report = partial(partial, _report, job)
        context = evolve(context, expect=report("expect"), advance=report("advance"), log=report("log"))
    with _rank_in_environment(rank, processes):
        _join_group(training, rank, processes, arguments["store"])
        worker.train_as_member(training, processes, context)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _report(job: Job, name: str, value: Any) -> None:
    """Send the argument of one of the functions of the parent's context."""
    job.send([name, value])


@contextmanager
def _rank_in_environment(rank: int, processes: int) -> Iterator[None]:
    """Set the variables by which torch's launcher describes a process; at the end, all variables are as before."""
    before = dict(os.environ)
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ.update({name: str(value) for name, value in own.items()})
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _join_group(training: TrainingRequest, rank: int, processes: int, store: str) -> None:
    """Wait for the other processes and form a group with them. The file ``store`` is how they find each other."""
    import torch
    from torch import distributed

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
