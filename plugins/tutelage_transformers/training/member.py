"""One of the kept worker processes in a training that they do together.

They form a process group, which stays for the next training. accelerate keeps its state in singletons, and torch's
launcher describes a process in environment variables: both are reset at the end of a training, so that the next one
starts as in a new process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from attrs import evolve

from tutelage.context import Context
from tutelage_transformers.models import loading
from tutelage_transformers.processes.serving import Job
from tutelage_transformers.training import group, trainers, worker
from tutelage_transformers.training.request import TrainingRequest


def prepare(arguments: Any, job: Job) -> None:
    """Import what trainings need, and form the process group meanwhile: both take seconds.

    ``arguments`` are those of ``group.join``.
    """
    import torch._dynamo  # noqa: F401  # joining uses it if it is imported, so it must not be half imported

    with ThreadPoolExecutor(1) as thread:
        joining = thread.submit(group.join, **arguments)
        trainers.import_all()
        joining.result()


def take_part(arguments: Any, job: Job) -> None:
    """Do the part of one process in a training. A process that has none frees the memory of its model.

    ``arguments`` are ``group``, the arguments of ``group.join``, and ``request``, the training as
    ``TrainingRequest.as_json`` describes it.
    """
    from accelerate.state import AcceleratorState, GradientState

    loading.release_all()
    group.join(**arguments["group"])
    rank, processes = arguments["group"]["rank"], arguments["group"]["processes"]
    if rank >= processes:
        return
    training = TrainingRequest.from_json(arguments["request"])
    context = Context(cancelled=job.cancelled, pair_losses=worker.pair_losses_of(training))
    if rank == 0:
        report = partial(partial, _report, job)
        context = evolve(context, expect=report("expect"), advance=report("advance"), log=report("log"))
    with _rank_in_environment(rank, processes):
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
