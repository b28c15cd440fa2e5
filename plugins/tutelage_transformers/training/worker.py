"""One of several processes that train together, started by accelerate's launcher through ``python_script``.

Its argument is a folder, which ``request`` describes. Only the first process reports progress and warnings, and only it
writes the checkpoint.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import InputError, TutelageError
from tutelage.files.jsonl import dump, write_json
from tutelage.files.locking import wait_until_free
from tutelage.objectives import Dpo, PairLoss
from tutelage.plugins.pair_losses import bound_pair_losses
from tutelage.plugins.registry import Registry
from tutelage_transformers.devices import parallel, selection
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.processes.warned import sent_by
from tutelage_transformers.training import step
from tutelage_transformers.training.request import ALIVE, FAILED, PROGRESS, STOP, TrainingRequest


def main(folder: Path) -> int:
    """Take part in the training; returns the exit status.

    An error is written into the folder for the parent process. One that is not of ``tutelage.errors`` is raised again,
    so that its traceback is in the log.
    """
    end_with_parent(folder / ALIVE)
    try:
        _train(TrainingRequest.read(folder), folder)
    except Exception as error:
        write_json(folder / FAILED.format(rank=_rank()), Failure.of(error))
        if isinstance(error, TutelageError):
            return error.exit_code
        raise
    return 0


def _train(request: TrainingRequest, folder: Path) -> None:
    with (folder / PROGRESS).open("a", encoding="utf-8") as file:
        context = Context(cancelled=(folder / STOP).exists, pair_losses=pair_losses_of(request))
        writer = partial(_writer, file, Lock())
        if _rank() == 0:
            context = evolve(context, expect=writer("expect"), advance=writer("advance"), log=writer("log"))
        with sent_by(writer("warn")) if _rank() == 0 else nullcontext():
            train_as_member(request, int(os.environ.get("WORLD_SIZE", "1")), context)
        _leave_group()


def pair_losses_of(request: TrainingRequest) -> Mapping[str, PairLoss]:
    """Return the losses of plugins that the training names.

    Raises ``InputError`` if a plugin is not installed, or if its file is missing or has changed.
    """
    objective = request.objective
    if not isinstance(objective, Dpo) or not objective.plugin_losses:
        return {}
    try:
        return bound_pair_losses(objective, request.model.plugin, Registry.for_process(request.plugin_files))
    except InputError as error:
        raise InputError(
            f"{error}; a training by several processes knows the losses of installed plugins and of plugin files only"
        ) from error


def train_as_member(request: TrainingRequest, processes: int, context: Context) -> None:
    """Do one process's part of a training by ``processes`` processes, each on a device of its own.

    The process group is one that exists, or that of torch's environment variables. It stays.
    """
    device = selection.device_of_rank(request.settings)
    parallel.check_even_shares(processes, request.objective.batch_size)
    settings = parallel.settings_of_one_process(request.settings, device, processes)
    step.train_here(evolve(request, settings=settings), context)


def _leave_group() -> None:
    """End the process group, once the first process has written the checkpoint."""
    from accelerate import PartialState

    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def _writer(file: IO[str], writing: Lock, name: str) -> Callable[[Any], None]:
    """Return a function of a context that writes its argument into the file, as a line of ``progress.jsonl``."""

    def write(value: Any) -> None:
        with writing:  # any thread may log a warning
            file.write(dump([name, value]) + "\n")
            file.flush()

    return write


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def end_with_parent(lock: Path) -> None:
    """End this process at once when the process that holds ``lock`` ends, however it ends."""

    def wait() -> None:
        wait_until_free(lock)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
