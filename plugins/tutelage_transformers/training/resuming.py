"""Resume inside training: a killed training goes on from its last training checkpoint, to the same weights.

The checkpoints are those of transformers' ``Trainer``: weights, optimizer, schedule, random numbers and every logged
row. They are this plugin's own scratch. Beside each lies a mark that says which training it belongs to, written when
all the rest is on the disk: without its mark a checkpoint was cut short by a kill, and with another training's mark it
is of no use. transformers keeps optimizer and random numbers as torch files, and reads them with ``weights_only=True``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from tutelage.context import Context
from tutelage.jsonl import write_json
from tutelage.records import Model
from tutelage_transformers.devices.parallel import broadcast
from tutelage_transformers.devices.selection import device_of
from tutelage_transformers.models import loading
from tutelage_transformers.training.request import TrainingRequest

MARK = "training.json"
"""In each training checkpoint: the training that it belongs to."""
_STOPPED_SHARE = 0.1
"""A training that the user stops is kept, too, if at least this share of the interval would be lost."""
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


@frozen
class TrainingFolder:
    """Where one training keeps its checkpoints, of which the newest whole one remains."""

    path: Path
    training: dict[str, Any] = field(eq=False)
    """What makes this training what it is, as JSON values."""

    def checkpoint(self, step: int) -> Path:
        """The training checkpoint that was made after so many steps."""
        return self.path / f"checkpoint-{step}"

    def latest(self) -> Path | None:
        """The checkpoint to go on from, or None; whatever else lies there is removed."""
        whole = [folder for folder in self.path.glob("checkpoint-*") if _read_mark(folder) == self.training]
        newest = max(whole, key=step_of, default=None)
        self._remove_all_but(newest)
        return newest

    def mark_complete(self, step: int) -> None:
        """Mark the checkpoint of ``step`` as whole, once it is on the disk, and drop the one before."""
        folder = self.checkpoint(step)
        for file in folder.rglob("*"):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(folder / MARK, self.training)
        self._remove_all_but(folder)

    def remove(self) -> None:
        """Remove everything: the training is done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _remove_all_but(self, kept: Path | None) -> None:
        for folder in self.path.glob("checkpoint-*"):
            if folder != kept:
                shutil.rmtree(folder)


def training_folder(request: TrainingRequest) -> TrainingFolder:
    """The folder, in the context's scratch, of the training that these arguments describe.

    Start weights, examples, objective, settings and library versions make it what it is: where one of them is another
    than before, the losses would be, too. A run may be moved between a kill and its continuation.
    """
    training = {
        "schema": 1,
        "output": os.path.relpath(request.output.resolve(), request.scratch.resolve()),
        "model": _fingerprint(request.model),
        "reference": _fingerprint(request.reference) if request.reference else None,
        "objective": [type(request.objective).__name__, attrs.asdict(request.objective)],
        "examples": _digest(request.examples),
        "settings": {**attrs.asdict(request.settings), "device": device_of(request.settings).type},
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    name = sha256(training["output"].encode()).hexdigest()[:16]
    return TrainingFolder(request.scratch / f"training-{name}", json.loads(json.dumps(training)))


def logged_rows(checkpoint: Path) -> list[dict[str, Any]]:
    """The metrics of every step up to a training checkpoint."""
    from transformers.trainer_callback import TrainerState

    history = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).log_history
    return [row for row in history if "loss" in row]


@cache
def checkpoint_callback() -> type[Any]:
    """A trainer callback that lets the trainer save its state now and then.

    It is made with a ``TrainingFolder``, the minutes between two checkpoints (None: never) and the ``Context``.
    """
    from transformers.trainer_callback import TrainerCallback

    class Keeping(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
        def __init__(self, folder: TrainingFolder, minutes: float | None, context: Context) -> None:
            self.folder = folder
            self.interval = None if minutes is None else minutes * 60
            self.context = context
            self.kept = time.monotonic()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.kept = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.interval is not None and state.global_step < state.max_steps:
                share = _STOPPED_SHARE if self.context.cancelled() else 1
                is_due = time.monotonic() - self.kept >= share * self.interval
                control.should_save = bool(broadcast(is_due, args.device))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            args.distributed_state.wait_for_everyone()  # each process writes its random numbers
            if state.is_world_process_zero:
                self.folder.mark_complete(state.global_step)
            self.kept = time.monotonic()

    return Keeping


def _read_mark(checkpoint: Path) -> Any:
    mark = checkpoint / MARK
    return json.loads(mark.read_bytes()) if mark.exists() else None


def step_of(checkpoint: Path) -> int:
    """The number of steps after which a training checkpoint was made."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _fingerprint(model: Model) -> Any:
    """What tells one state of a folder of weights from another; the name of a model of the hub."""
    files = sorted(Path(loading.location(model)).glob("*.safetensors"))
    return [[file.name, file.stat().st_mtime_ns, file.stat().st_size] for file in files] or loading.location(model)
