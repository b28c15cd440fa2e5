"""The work of a kept process in generation: it loads a model, completes its share of conversations, frees the model.

``shared_model`` sends the requests, and ``processes.serving`` calls these functions.
"""

from __future__ import annotations

from typing import Any

from tutelage.files.jsonl import converter
from tutelage.records import Model, Sampling
from tutelage_transformers.generation import dispatch
from tutelage_transformers.models import loading
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.processes.serving import Job
from tutelage_transformers.settings import TransformersSettings


def load(arguments: Any, job: Job) -> None:
    """Load a model, unless it is in memory. The model that was in memory is freed first."""
    _loaded(arguments)


def answer(arguments: Any, job: Job) -> None:
    """Complete conversations and send the completions of each batch as they are finished, and texts so far."""
    if job.cancelled():  # while it waited for the job before
        return
    loaded, settings = _loaded(arguments)
    sampling = converter().structure(arguments["sampling"], Sampling)
    conversations, seeds = arguments["conversations"], arguments["seeds"]
    on_text = job.send if arguments["shows_text"] else None
    for completions in dispatch.complete(loaded, settings, conversations, arguments["n"], sampling, seeds, on_text):
        if job.cancelled():
            return
        job.send(completions)


def weigh(arguments: Any, job: Job) -> None:
    """Compute the probabilities of replies to conversations and send those of each batch as they are finished."""
    if job.cancelled():
        return
    loaded, settings = _loaded(arguments)
    for found in dispatch.weigh(loaded, settings, arguments["conversations"], arguments["replies"]):
        if job.cancelled():
            return
        job.send(found)


def release(arguments: Any, job: Job) -> None:
    """Free the memory of the model, on the GPU too. The process stays."""
    loading.release_all()


def _loaded(arguments: Any) -> tuple[LoadedModel, TransformersSettings]:
    settings = converter().structure(arguments["settings"], TransformersSettings)
    return loading.load(converter().structure(arguments["model"], Model), settings), settings
