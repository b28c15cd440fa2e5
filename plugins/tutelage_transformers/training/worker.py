"""One of several processes that train together, under torchrun or accelerate: ``-m`` this module ``FOLDER``.

The folder is that of a ``request``. Only the first process tells of its steps, and only it writes the checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from attrs import evolve

from tutelage.context import Context
from tutelage.errors import TutelageError
from tutelage.jsonl import dump, write_json
from tutelage_transformers.devices import parallel
from tutelage_transformers.devices.selection import device_of
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.training import step
from tutelage_transformers.training.request import ALIVE, FAILED, STOP, TOLD, Request, read


def main(folder: Path) -> int:
    """Train along; returns the exit status. An error is left in the folder for the process that asked."""
    end_with_parent(folder / ALIVE)
    try:
        _train(read(folder), folder)
    except Exception as error:
        write_json(folder / FAILED.format(rank=_rank()), Failure.of(error))
        if isinstance(error, TutelageError):
            return error.exit_code
        raise
    return 0


def _train(request: Request, folder: Path) -> None:
    from accelerate import PartialState

    local, processes = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    kind = device_of(request.settings).type
    device = f"cuda:{local}" if kind == "cuda" else kind
    parallel.check_shares(processes, request.objective.batch_size)
    with (folder / TOLD).open("a", encoding="utf-8") as told:
        context = Context(
            settings=parallel.of_one_process(request.settings, device, processes),
            scratch=Path(request.scratch),
            cancelled=(folder / STOP).exists,
        )
        if _rank() == 0:
            teller = partial(_teller, told)
            context = evolve(context, expect=teller("expect"), advance=teller("advance"), log=teller("log"))
        step.train_here(
            request.model, request.reference, request.objective, Path(request.examples), Path(request.output), context
        )
    together = PartialState()
    together.wait_for_everyone()  # the first process may be writing still
    together.destroy_process_group()


def _teller(file: IO[str], name: str) -> Callable[[Any], None]:
    """A function of a context that writes down what it is called with."""

    def tell(value: Any) -> None:
        file.write(dump([name, value]) + "\n")
        file.flush()

    return tell


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def end_with_parent(lock: Path) -> None:
    """End this process at once when the one that holds ``lock`` is gone, however it ended."""

    def wait() -> None:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # waits as long as the parent lives
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
