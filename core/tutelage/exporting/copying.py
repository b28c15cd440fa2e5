"""A checkpoint of a run, copied whole or not at all, with its card and the sampling that it was trained for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from attrs import frozen

from tutelage.errors import InputError, PluginError
from tutelage.exporting.card import Published, whole_card
from tutelage.exporting.model_card import CARD
from tutelage.files.jsonl import write_json
from tutelage.files.whole import whole_folder
from tutelage.planning.steps import PlannedModel
from tutelage.plugin.registry import Registry
from tutelage.plugin_info import Conversion
from tutelage.recipe.schema import Generation
from tutelage.runs.run import RunModels

GENERATION_CONFIG = "generation_config.json"


@frozen
class Export:
    """One model of a run on its way out."""

    models: RunModels
    planned: PlannedModel
    destination: Path
    conversion: Conversion
    published: Published

    @property
    def checkpoint(self) -> Path:
        """Where its weights are in the run."""
        return self.models.store.path(self.planned.worker.checkpoint)

    def check(self, registry: Registry) -> None:
        """Raise InputError or PluginError for whatever is wrong, before anything is written."""
        if not self.planned.worker.checkpoint:
            raise InputError(f"{self.planned.id} is the base model: nothing was trained, so there is nothing to export")
        if self.destination.exists() and (not self.destination.is_dir() or any(self.destination.iterdir())):
            raise InputError(f"{self.destination}: is there already, and not empty; name another folder")
        if self.conversion.words and registry.info(self._plugin).convert is None:
            raise PluginError(
                f"{registry.label(self._plugin)} does not convert checkpoints; leave --dtype and --quantize out"
            )

    def write(self, registry: Registry) -> None:
        """Write the destination. It takes its place when it is whole; a failure leaves nothing behind."""
        with whole_folder(self.destination) as folder:
            self._copy(folder, registry)
            _set_sampling(folder / GENERATION_CONFIG, self.models.recipe.generation)
            text = whole_card(self.models, self.planned, self.published)
            (folder / CARD).write_text(text, encoding="utf-8")

    def _copy(self, folder: Path, registry: Registry) -> None:
        convert = registry.info(self._plugin).convert if self.conversion.words else None
        if convert is None:
            shutil.copytree(self.checkpoint, folder, dirs_exist_ok=True)
        else:
            convert(self.checkpoint, folder, self.conversion)

    @property
    def _plugin(self) -> str:
        return self.models.recipe.models.student.plugin


def _set_sampling(path: Path, generation: Generation) -> None:
    """Let other tools sample by default as the model sampled when it learned.

    Without it transformers is greedy, and servers sample at temperature 1. There is no limit of tokens in it: vLLM
    would take that for the most that anybody may ask for. In the run itself nothing is set: every stage says how it
    samples.
    """
    if not path.is_file():
        return
    values = json.loads(path.read_text(encoding="utf-8"))
    greedy = generation.temperature == 0
    sampling = {"temperature": generation.temperature, "top_p": generation.top_p}
    write_json(path, {**values, "do_sample": not greedy, **({} if greedy else sampling)})
