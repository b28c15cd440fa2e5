"""Copying of a checkpoint of a run, with its model card and the sampling parameters that it was trained with."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import frozen

from tutelage.errors import InputError, PluginError
from tutelage.exporting.card import Published, whole_card
from tutelage.exporting.model_card import CARD
from tutelage.files.disk_errors import check_writable, writing
from tutelage.files.jsonl import read_json, write_json
from tutelage.files.whole import whole_folder
from tutelage.planning.steps import PlannedModel
from tutelage.plugin_info import Conversion
from tutelage.plugins.helpers import convert, implements
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Generation
from tutelage.runs.run import RunModels

GENERATION_CONFIG = "generation_config.json"


@frozen
class Export:
    """The export of one model of a run."""

    models: RunModels
    planned: PlannedModel
    """The model to export."""
    destination: Path
    """The folder to write; it must be empty or not exist."""
    conversion: Conversion
    published: Published

    @property
    def checkpoint(self) -> Path:
        """The model's checkpoint folder in the run. Raises ``InputError`` if a file of it is truncated."""
        return self.models.store.complete(self.planned.worker.checkpoint)

    def check(self, registry: Registry) -> None:
        """Check the export before anything is written.

        Raises ``InputError`` if the model is the base model, or the destination is not empty or cannot be written, and
        ``PluginError`` if the plugin cannot convert.
        """
        if not self.planned.worker.checkpoint:
            raise InputError(f"{self.planned.id} is the base model: nothing was trained, so there is nothing to export")
        if self.destination.exists() and (not self.destination.is_dir() or any(self.destination.iterdir())):
            raise InputError(f"{self.destination}: already exists and is not empty; choose another folder")
        check_writable(self.destination / CARD)
        if self.conversion.words and not implements(registry, self._plugin, "convert"):
            raise PluginError(
                f"{registry.label(self._plugin)} cannot convert checkpoints; leave out --format, --dtype and --quantize"
            )

    def write(self, registry: Registry) -> None:
        """Write the destination folder. A temporary folder is renamed when complete; a failure leaves no files."""
        with whole_folder(self.destination) as folder:
            self._copy(folder, registry)
            _set_sampling(folder / GENERATION_CONFIG, self.models.recipe.generation)
            text = whole_card(self.models, self.planned, self.published)
            with writing(self.destination):
                (folder / CARD).write_text(text, encoding="utf-8")

    def _copy(self, folder: Path, registry: Registry) -> None:
        if not self.conversion.words:
            checkpoint = self.checkpoint
            with writing(self.destination):
                shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        else:
            with writing(self.destination):
                convert(registry, self._plugin, self.checkpoint, folder, self.conversion)

    @property
    def _plugin(self) -> str:
        return self.models.recipe.models.student.plugin


def _set_sampling(path: Path, generation: Generation) -> None:
    """Make the sampling parameters of the run's candidates the default for other tools.

    Without them, transformers decodes greedily, and servers sample at temperature 1. The limit on new tokens is not
    set, because vLLM would use it as the maximum for all requests. The checkpoint in the run has no defaults: every
    stage sets its own parameters.
    """
    if not path.is_file():
        return
    values = read_json(path)
    greedy = generation.temperature == 0
    sampling: dict[str, float] = {"temperature": generation.temperature, "top_p": generation.top_p}
    sampling |= {"top_k": generation.top_k} if generation.top_k is not None else {}
    sampling |= {"min_p": generation.min_p} if generation.min_p else {}
    write_json(path, {**values, "do_sample": not greedy, **({} if greedy else sampling)})
