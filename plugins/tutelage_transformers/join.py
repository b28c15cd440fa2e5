"""Trainings on several machines: ``python -m tutelage_transformers.join RUN CONFIG`` on each further one.

The first machine runs ``tutelage run`` with an accelerate config of machine rank 0. This program waits for the
trainings of that run, whose folder all machines must see under one path, and takes part in each with ``CONFIG``, which
is the same but for its machine rank. It ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from tutelage.errors import InputError
from tutelage_transformers.processes.child import environment
from tutelage_transformers.training.launching import WORKER, accelerate
from tutelage_transformers.training.request import REQUEST

_POLL_SECONDS = 1.0


def main() -> None:
    """Take part until the user ends it."""
    arguments = argparse.ArgumentParser(
        prog="python -m tutelage_transformers.join", description="Take part in trainings."
    )
    arguments.add_argument("run", type=Path, help="The run's folder, which may not be there yet.")
    arguments.add_argument("config", help="The accelerate config of this machine.")
    given = arguments.parse_args()
    try:
        take_part(given.run.resolve(), accelerate(given.config))
    except InputError as error:
        arguments.error(str(error))
    except KeyboardInterrupt:
        return


def take_part(run: Path, launcher: list[str]) -> None:
    """Start this machine's processes for each training that the run asks for."""
    joined: set[Path] = set()
    print(f"waiting for trainings of {run}; Ctrl-C ends", flush=True)
    while True:
        for request in sorted(run.glob(f".scratch/**/request-*/{REQUEST}")):
            folder = request.parent
            if folder not in joined:
                joined.add(folder)
                print(f"taking part in {folder}", flush=True)
                status = subprocess.run([*launcher, "-m", WORKER, str(folder)], env=environment()).returncode
                print(f"ended with status {status}", flush=True)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
