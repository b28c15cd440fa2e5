"""What a training in other processes is asked for and what it tells, as files in one folder.

request.json     what to train: written before the processes start
alive            locked by the process that asked: where the lock is free, that process is gone
stop             is there once the user asked to stop
told.jsonl       steps and metrics, a JSON object a line, from the first process
failed-RANK.json why a process failed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.context import Context
from tutelage.jsonl import converter, write_json
from tutelage.records import Dpo, Model, Objective, Sft
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.settings import TransformersSettings, settings_of

REQUEST, ALIVE, STOP, TOLD, FAILED = "request.json", "alive", "stop", "told.jsonl", "failed-{rank}.json"


@frozen
class Request:
    """The arguments of a training, as ``training.step.train`` takes them."""

    model: Model
    reference: Model | None
    sft: Sft | None
    dpo: Dpo | None
    """One of these two is the objective."""
    examples: str
    output: str
    scratch: str
    settings: TransformersSettings

    @classmethod
    def of(
        cls,
        model: Model,
        reference: Model | None,
        objective: Objective,
        examples: Path,
        output: Path,
        context: Context,
    ) -> Request:
        """From the arguments of ``training.step.train``; paths are made absolute."""
        return cls(
            model,
            reference,
            objective if isinstance(objective, Sft) else None,
            objective if isinstance(objective, Dpo) else None,
            str(examples.resolve()),
            str(output.resolve()),
            str(context.scratch.resolve()),
            settings_of(context),
        )

    @property
    def objective(self) -> Objective:
        """What to learn by."""
        objective = self.sft or self.dpo
        assert objective is not None
        return objective

    def write(self, folder: Path) -> None:
        """Put the request into its folder."""
        write_json(folder / REQUEST, self)


def read(folder: Path) -> Request:
    """The request of a folder."""
    return converter().structure(json.loads((folder / REQUEST).read_bytes()), Request)


def failures(folder: Path) -> list[Failure]:
    """Of all processes: plain errors before others, which may be their consequence, and then the first one first."""
    files = folder.glob(FAILED.format(rank="*"))
    found = [converter().structure(json.loads(file.read_bytes()), Failure) for file in files]
    return sorted(found, key=lambda failure: (not failure.is_plain, failure.seconds))


def told(line: str) -> tuple[str, Any]:
    """One line of ``told.jsonl``: the name of a function of the context, and what to call it with."""
    name, value = json.loads(line)
    return name, value
