"""Trainings on several machines: run ``python -m tutelage_transformers.join RUN CONFIG`` on each further machine.

The first machine runs ``tutelage run`` with an accelerate config of machine rank 0. This program waits for the
trainings of that run and takes part in each. All machines must see the run's folder under the same path. ``CONFIG`` is
the same config with this machine's rank. The program ends with Ctrl-C, SIGTERM or SIGHUP, and its processes with it.
"""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from tutelage.child_processes import python_script
from tutelage.errors import InputError
from tutelage_transformers.training.launching import WORKER, accelerate, running
from tutelage_transformers.training.request import REQUEST

_POLL_SECONDS = 1.0


def main() -> None:
    """Take part in trainings until the user stops the program."""
    arguments = argparse.ArgumentParser(
        prog="python -m tutelage_transformers.join", description="Take part in trainings."
    )
    arguments.add_argument("run", type=Path, help="The run's folder, which may not exist yet.")
    arguments.add_argument("config", help="The accelerate config of this machine.")
    options = arguments.parse_args()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        take_part(options.run.resolve(), accelerate(options.config))
    except InputError as error:
        arguments.error(str(error))
    except KeyboardInterrupt:
        return


def take_part(run: Path, launcher: list[str]) -> None:
    """Start this machine's processes for each training of the run. Does not return."""
    joined: set[Path] = set()
    print(f"waiting for trainings of {run}; Ctrl-C ends", flush=True)
    while True:
        for request in sorted(run.glob(f".scratch/**/request-*/{REQUEST}")):
            folder = request.parent
            if folder not in joined:
                joined.add(folder)
                print(f"taking part in {folder}", flush=True)
                with running([*launcher, *python_script(WORKER, str(folder))]) as process:
                    print(f"ended with status {process.wait()}", flush=True)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
