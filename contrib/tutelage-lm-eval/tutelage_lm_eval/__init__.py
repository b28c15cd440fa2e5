"""A tutelage plugin with tasks of the lm-evaluation-harness as measures of the checkpoints of a run.

A task is evaluated by lm_eval's own model class ``hf`` on the folder of the weights, in a process of its own. Each
document of the task has one value, so that intervals and differences between models are those of every measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

from tutelage import Context, InputError, Measure, Measurement, Model, PluginInfo, hookimpl
from tutelage_lm_eval.evaluating import evaluated


@frozen
class TaskSettings:
    """The settings of a measure. Recipes set them beside the name of the measure."""

    task: str
    """Name of a task or group of lm_eval."""
    folder: Path | None = None
    """Folder with YAML files of tasks and their data. Paths in `dataset_kwargs.data_files` are relative to it. If left
    out, the task is one of lm_eval's own, whose data comes from the hub or its cache."""
    metric: str = "acc"
    """A metric that the task computes for each document: `acc`, `acc_norm`, `exact_match`, `word_perplexity`."""
    filter: str = "none"
    """Name of the task's filter of answers, if it has several: `strict-match`."""
    num_fewshot: int | None = None
    """Number of examples before each question. If left out, that of the task."""
    limit: int | None = None
    """Number of documents of each task, from the first. If left out, all of them."""
    batch_size: int = 1
    """Number of requests that the model computes at once. Above 1, the last digits of the values depend on it."""
    device: str = ""
    """Device of the model: `cpu`, `cuda:0`. If empty, a GPU if there is one."""
    apply_chat_template: bool = False
    """Whether the questions are put into the chat template of the model."""
    model_args: Mapping[str, Any] = field(factory=dict)
    """Further arguments of lm_eval's model class `hf`: `{dtype: bfloat16, max_length: 2048}`."""


def problems(settings: TaskSettings) -> Iterator[str]:
    """Yield what is wrong with the settings. The task files are searched without lm_eval, which loads slowly."""
    for name in ("batch_size", "limit"):
        if (value := getattr(settings, name)) is not None and value < 1:
            yield f"{name}: {value}; it must be at least 1"
    if settings.folder is None:
        return
    if not settings.folder.is_dir():
        yield f"folder: {settings.folder} is not a folder; name the folder with the YAML files of the tasks"
    elif settings.task not in (known := tasks_in(settings.folder)):
        names = ", ".join(known) or "none"
        yield f"task: no YAML file in {settings.folder} has the task {settings.task!r}; it has {names}"


def tasks_in(folder: Path) -> list[str]:
    """Return the names of the tasks, groups and tags that the YAML files of a folder define.

    Raises ``InputError`` with the file if one cannot be read.
    """
    names: set[str] = set()
    for path in sorted(folder.rglob("*.yaml")):
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not a YAML file of a task ({error})") from error
        if isinstance(values, Mapping):
            found = [values.get(key) for key in ("task", "group", "tag")]
            listed = [one for name in found for one in (name if isinstance(name, list) else [name])]
            names.update(one for one in listed if isinstance(one, str))
    return sorted(names)


class _Loader(yaml.SafeLoader):
    """Reads task files without calling the functions that they name with tags such as ``!function``."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def files(settings: TaskSettings) -> list[Path]:
    """Return the folder of the task, whose content is part of what the values depend on."""
    return [] if settings.folder is None else [settings.folder]


def measure(model: Model, settings: TaskSettings, context: Context, *, of_pairs: bool = False) -> Iterator[Measurement]:
    """Yield the value of each document of a task.

    ``of_pairs`` is for metrics whose value of a document is its log-likelihood with the number of its words or bytes.
    The value is then the mean negative log-likelihood, with this number as its weight.
    """
    for id, value in evaluated(model, settings, context):
        if isinstance(value, list) == of_pairs:
            number, weight = (-value[0] / value[1], value[1]) if isinstance(value, list) else (value, 1.0)
            yield Measurement(number, weight, prompt_id=id)
        else:
            right = "lm-eval/log-loss" if isinstance(value, list) else "lm-eval/share or lm-eval/number"
            raise InputError(f"the metric {settings.metric} of {settings.task} is one for the measure {right}; name it")


def _measure(help: str, of_pairs: bool = False, **about: Any) -> Measure:
    function = partial(measure, of_pairs=of_pairs)
    return Measure(
        function=function, help=help, over="checkpoint", settings=TaskSettings, check=problems, files=files, **about
    )


@hookimpl
def describe() -> PluginInfo:
    """Describe the plugin: its measures."""
    return PluginInfo(
        help="Tasks of the lm-evaluation-harness as measures of every model of a run.",
        measures={
            "share": _measure(
                "share of a task's documents, by a metric from 0 to 1 (acc, exact_match)", lowest=0, highest=1
            ),
            "log-loss": _measure(
                "negative log-likelihood of a task's documents (word_perplexity is its exponential)",
                of_pairs=True,
                better="lower",
                unit="nats",
                lowest=0,
            ),
            "number": _measure("mean of any other metric of a task's documents", better="neither"),
        },
    )
