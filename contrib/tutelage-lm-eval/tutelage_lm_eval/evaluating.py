"""Evaluate a checkpoint with lm_eval in a process of its own.

lm_eval seeds the global generators and reads files relative to the working folder. A process of its own keeps both from
the run, and frees the memory of the model at its end.
"""

from __future__ import annotations

import json
import subprocess
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict

from tutelage import Context, InputError, Interrupted, Model, StageError
from tutelage.child_processes import python_command, python_environment

if TYPE_CHECKING:
    from tutelage_lm_eval import TaskSettings

WORKER = Path(__file__).with_name("worker.py")
_POLL = 0.5
"""Seconds between two checks whether the user has asked to stop."""
_SHOWN = 12
"""Number of the last lines of lm_eval's output that an error shows."""


def evaluated(model: Model, settings: TaskSettings, context: Context) -> list[tuple[str, float | list[float]]]:
    """Return the value of each document of a task, by its id.

    The answers of the model are kept in ``context.scratch``: a call after a killed one asks only for the others. Raises
    ``InputError`` if the model has no weights on this machine, or the task or the metric does not exist, and
    ``StageError`` if lm_eval fails.
    """
    if not model.name:
        raise InputError(
            f"{model.id or 'the model'} has no name; bind a folder of weights or a hub name to the student"
        )
    scratch = context.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    weights = Path(model.name)
    folder = settings.folder.resolve() if settings.folder is not None else None
    request = {
        **asdict(settings),
        "pretrained": str(weights.resolve()) if weights.exists() else model.name,
        "folder": None if folder is None else str(folder),
        "cache": str(scratch / "answers"),
        "output": str(scratch / "values.json"),
    }
    log = scratch / "lm_eval.log"
    code = _run(request, folder or scratch, scratch, log, context)
    found = _read(scratch / "values.json")
    if "error" in found:
        raise InputError(f"{settings.task}: {found['error']}")
    if code or "values" not in found:
        raise StageError(f"lm_eval failed on {settings.task} (exit code {code}):\n{_last_lines(log)}")
    return [(str(id), value) for id, value in found["values"]]


def _run(request: dict[str, Any], folder: Path, scratch: Path, log: Path, context: Context) -> int:
    """Run the worker in the folder of the task. It ends with this process, because its standard input then ends."""
    Path(request["output"]).unlink(missing_ok=True)
    environment = {**python_environment(), "TOKENIZERS_PARALLELISM": "false"}
    if request["folder"] is not None:  # data from the hub stays in the user's cache
        environment["HF_DATASETS_CACHE"] = str(scratch / "datasets")
    with log.open("w", encoding="utf-8") as output:
        command = python_command(str(WORKER), json.dumps(request))
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment
        ) as process:
            try:
                while True:
                    try:
                        return process.wait(_POLL)
                    except subprocess.TimeoutExpired:
                        if context.cancelled():
                            raise Interrupted("stopped while lm_eval was at work") from None
            finally:
                process.kill()


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _last_lines(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        return "".join(deque(lines, _SHOWN)).rstrip()
