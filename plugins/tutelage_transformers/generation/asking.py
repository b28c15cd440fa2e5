"""How a model is asked: in this process, or in several, one for each device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tutelage.records import Model, Sampling
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation.engine import Reply, generate
from tutelage_transformers.generation.pool import Pool
from tutelage_transformers.models import loading
from tutelage_transformers.models.chat import question
from tutelage_transformers.models.loading import Loaded
from tutelage_transformers.settings import TransformersSettings

Ask = Callable[[Sequence[str], int, Sampling], Iterator[list[Reply]]]
"""Asks each of the questions n times; yields replies as they come, which name their question by its place."""

_pools: dict[object, Pool] = {}
"""The processes of the one model that is kept, under what it was loaded from and how."""


def asking(model: Model, settings: TransformersSettings) -> Ask:
    """How to ask ``model``. What is kept of another model is released.

    Raises ``InputError`` where the model cannot be loaded: at once in this process, in others once they are asked.
    """
    names = parallel.device_names(settings)
    if len(names) == 1:
        _release_pools()
        return partial(ask, loading.load(model, settings), settings)
    key = (model.name, settings, loading.stamp(model))
    if key not in _pools:
        release_all()
        _pools[key] = Pool(model, [parallel.of_one_process(settings, name) for name in names])
    return _pools[key].ask


def ask(
    loaded: Loaded, settings: TransformersSettings, questions: Sequence[str], n: int, sampling: Sampling
) -> Iterator[list[Reply]]:
    """Ask a model that is loaded in this process, through its chat template."""
    prompts = [question(loaded.tokenizer, text) for text in questions]
    return generate(loaded, prompts, n, sampling, settings.batch_size, settings.engine)


def release(model: Model) -> None:
    """Free the memory of ``model``, in this process and others, if it is the one that is kept."""
    loading.release(model)
    if any(isinstance(key, tuple) and key[0] == model.name for key in _pools):
        _release_pools()


def release_all() -> None:
    """Free the memory of whatever is kept."""
    loading.release_all()
    _release_pools()


def _release_pools() -> None:
    while _pools:
        _pools.popitem()[1].close()
