"""Resuming inside a training: a killed training continues from its last training checkpoint, to the same weights.

Training checkpoints are those of transformers' ``Trainer``: weights, optimizer, schedule, random numbers and every
logged row. They are in this plugin's scratch folder. Each contains a mark, written after everything else is on disk,
with what identifies its training and the sizes and checksums of its files. A checkpoint without a mark is incomplete
because of a kill; one with another training's mark, or with changed files, is not used. transformers stores optimizer
and random numbers as torch files and reads them with ``weights_only=True``.
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
from tutelage.files.jsonl import converter, write_json
from tutelage.records import Model
from tutelage.runs.integrity import FileRecord, durable_records_of, file_problems
from tutelage_transformers.devices.parallel import broadcast
from tutelage_transformers.devices.selection import device_of
from tutelage_transformers.models import loading
from tutelage_transformers.training.request import TrainingRequest

MARK = "training.json"
"""File in each training checkpoint that identifies its training."""
_STOPPED_SHARE = 0.1
"""If the user stops a training, its state is saved if at least this share of the interval would be lost."""
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


@frozen
class TrainingFolder:
    """The folder of one training's checkpoints, of which the newest complete one is kept."""

    path: Path
    training: dict[str, Any] = field(eq=False)
    """What identifies the training, as JSON values."""
    _intact: set[Path] = field(factory=set, init=False, eq=False)
    """Checkpoints that this process has written, or compared with their checksums."""

    def checkpoint(self, step: int) -> Path:
        """Return the path of the training checkpoint after ``step`` steps."""
        return self.path / f"checkpoint-{step}"

    def latest(self) -> Path | None:
        """Return the checkpoint to continue from, or None. All others are deleted."""
        whole = [folder for folder in self.path.glob("checkpoint-*") if self._is_usable(folder)]
        newest = max(whole, key=step_of, default=None)
        self._remove_all_but(newest)
        return newest

    def mark_complete(self, step: int) -> None:
        """Mark the checkpoint of ``step`` as complete, after it is on disk, and delete the one before."""
        folder = self.checkpoint(step)
        write_json(folder / MARK, {"training": self.training, "files": durable_records_of(folder)})
        self._intact.add(folder)
        self._remove_all_but(folder)

    def remove(self) -> None:
        """Delete the folder, once the training is done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _is_usable(self, folder: Path) -> bool:
        """Return whether a checkpoint is complete, of this training, and unchanged."""
        mark = _read_mark(folder)
        if mark is None or mark.get("training") != self.training:
            return False
        if folder not in self._intact:
            files = converter().structure(mark["files"], dict[str, FileRecord])
            if any(file_problems(folder, files, checksums=True)):
                return False
            self._intact.add(folder)
        return True

    def _remove_all_but(self, kept: Path | None) -> None:
        for folder in self.path.glob("checkpoint-*"):
            if folder != kept:
                shutil.rmtree(folder)


def training_folder(request: TrainingRequest) -> TrainingFolder:
    """Return the folder of a training, in its scratch folder.

    A training is identified by start weights, examples, objective, settings and library versions: if one of them
    changed, the losses would change. A run may be moved between a kill and its continuation.
    """
    training = {
        "schema": 2,  # 2: only finite weights are saved
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
    """Return the metrics of every step up to a training checkpoint."""
    from transformers.trainer_callback import TrainerState

    history = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")).log_history
    return [row for row in history if "loss" in row]


@cache
def checkpoint_callback() -> type[Any]:
    """Return the class of a trainer callback that makes the trainer save its state at intervals.

    Its arguments are a ``TrainingFolder``, the minutes between two checkpoints (None: never) and the ``Context``.
    """
    from transformers.trainer_callback import TrainerCallback

    class SaveState(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
        def __init__(self, folder: TrainingFolder, minutes: float | None, context: Context) -> None:
            self.folder = folder
            self.interval = None if minutes is None else minutes * 60
            self.context = context
            self.saved = time.monotonic()

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.interval is not None and state.global_step < state.max_steps:
                share = _STOPPED_SHARE if self.context.cancelled() else 1
                is_due = time.monotonic() - self.saved >= share * self.interval
                control.should_save = bool(broadcast(is_due, args.device))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            args.distributed_state.wait_for_everyone()  # each process writes its random numbers
            if state.is_world_process_zero:
                self.folder.mark_complete(state.global_step)
            self.saved = time.monotonic()

    return SaveState


def _read_mark(checkpoint: Path) -> dict[str, Any] | None:
    mark = checkpoint / MARK
    if not mark.exists():
        return None
    content: dict[str, Any] = json.loads(mark.read_bytes())
    return content


def step_of(checkpoint: Path) -> int:
    """Return the number of steps after which a training checkpoint was made."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _fingerprint(model: Model) -> Any:
    """Return what identifies the state of a folder of weights; for a model of the hub, its name."""
    files = sorted(Path(loading.location(model)).glob("*.safetensors"))
    return [[file.name, file.stat().st_mtime_ns, file.stat().st_size] for file in files] or loading.location(model)
