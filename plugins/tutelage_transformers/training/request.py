"""The record of one training, and the files by which launched processes receive it and report back.

A training by processes of accelerate's launcher has a folder of its own. Its files are:

request.json     the ``TrainingRequest``, written before the processes start
alive            locked by the parent process: if the lock is free, the parent has ended
stop             exists once the user has cancelled
progress.jsonl   steps, metrics and warnings, one JSON list per line, written by the first process
failed-RANK.json the ``Failure`` of a process
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import evolve, field, frozen
from cattrs.preconf.json import make_converter

from tutelage.context import Context, Tracking
from tutelage.errors import InputError
from tutelage.files.jsonl import write_json
from tutelage.files.settings import structure
from tutelage.objectives import Objective
from tutelage.plugins.files import MODULE_PREFIX
from tutelage.plugins.registry import Registry
from tutelage.records import Model
from tutelage_transformers.processes.failure import Failure
from tutelage_transformers.processes.warned import log_again
from tutelage_transformers.settings import TransformersSettings

REQUEST, ALIVE, STOP, PROGRESS, FAILED = "request.json", "alive", "stop", "progress.jsonl", "failed-{rank}.json"


@frozen
class TrainingRequest:
    """One training: made once by ``step.train`` and passed to everything that takes part in it."""

    model: Model
    """The model that training starts from."""
    reference: Model | None
    """The policy that the objective stays near; None is the start model."""
    objective: Objective
    examples: Path
    """JSON lines in TRL's conversational format."""
    output: Path
    """The folder that the checkpoint is written into."""
    scratch: Path
    """The folder for training checkpoints."""
    settings: TransformersSettings
    tracking: Tracking | None = None
    """Where the first process reports the metrics to."""
    plugin_files: Mapping[str, Mapping[str, str]] = field(factory=dict)
    """The plugin files that other processes load, if the objective needs them (``Context.plugin_files``)."""

    def as_json(self) -> Any:
        """Return the request as JSON values, with absolute paths: a process may have another working directory."""
        absolute = evolve(
            self,
            examples=self.examples.resolve(),
            output=self.output.resolve(),
            scratch=self.scratch.resolve(),
        )
        return _converter().unstructure(absolute)

    @classmethod
    def from_json(cls, values: Any) -> TrainingRequest:
        """Return the request that ``as_json`` described. Raises ``InputError`` if the objective cannot be imported."""
        objective = _objective(values["objective"], values["plugin_files"])
        return _converter().structure({**values, "objective": objective}, cls)

    def write(self, folder: Path) -> None:
        """Write ``request.json``."""
        write_json(folder / REQUEST, self.as_json())

    @classmethod
    def read(cls, folder: Path) -> TrainingRequest:
        """Return the request that was written into ``folder``."""
        return cls.from_json(json.loads((folder / REQUEST).read_bytes()))


@cache
def _converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook_func(lambda kind: kind is Objective, _plain)
    converter.register_structure_hook_func(lambda kind: kind is Objective, lambda made, _: made)
    return converter


def _plain(objective: Objective) -> dict[str, Any]:
    """Return an objective as plain values, with the place of its class."""
    cls = type(objective)
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "settings": attrs.asdict(objective)}


def check_importable(objective: Objective) -> None:
    """Raise ``InputError`` if other processes cannot import the class of an objective.

    They can import those of installed packages and of plugin files (``--plugin FILE.py``).
    """
    cls = type(objective)
    package = cls.__module__.partition(".")[0]
    is_installed = package != "__main__" and PathFinder.find_spec(package) is not None
    is_found = is_installed or package.startswith(MODULE_PREFIX)
    if not is_found or "<locals>" in cls.__qualname__:
        reason = "it is neither in an installed package nor in a plugin file"
        raise _not_importable(f"{cls.__module__}:{cls.__qualname__}", reason)


def _not_importable(place: str, reason: object) -> InputError:
    return InputError(
        f"the objective {place} cannot be imported ({reason}); a training by several processes knows the objectives of "
        "installed plugins and of plugin files (--plugin FILE.py) only: install the plugin, or set settings.processes "
        "to 1"
    )


def _objective(plain: Mapping[str, Any], plugin_files: Mapping[str, Mapping[str, str]]) -> Objective:
    if plain["class"].startswith(MODULE_PREFIX):
        Registry.for_process(plugin_files)  # imports the module of the class
    try:
        cls = pkgutil.resolve_name(plain["class"])
    except (ImportError, AttributeError) as error:
        raise _not_importable(plain["class"], error) from error
    found: Objective = structure(cls, plain["settings"], "objective")
    return found


def failures(folder: Path) -> list[Failure]:
    """Return the failures of all processes.

    Errors of ``tutelage.errors`` come before others, which may be their consequence; within each group the earliest
    comes first.
    """
    files = folder.glob(FAILED.format(rank="*"))
    found = [_converter().structure(json.loads(file.read_bytes()), Failure) for file in files]
    return sorted(found, key=lambda failure: (not failure.is_plain, failure.seconds))


def reports_of(context: Context) -> Mapping[str, Callable[[Any], None]]:
    """Return the functions by which the processes of a training report to a context, by the names that they send."""
    return {"expect": context.expect, "advance": context.advance, "log": context.log, "warn": log_again}


def progress_of(line: str) -> tuple[str, Any]:
    """Parse one line of ``progress.jsonl``: the name of a function of the context, and its argument."""
    name, value = json.loads(line)
    return name, value
