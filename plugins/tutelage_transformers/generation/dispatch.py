"""Where prompts are completed: in this process, or in several child processes, one for each device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tutelage.records import Model, Sampling
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation.engine import Completion, generate
from tutelage_transformers.generation.pool import DevicePool
from tutelage_transformers.models import loading
from tutelage_transformers.models.chat import Conversation, prompt_text
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.settings import TransformersSettings

Complete = Callable[[Sequence[Conversation], int, Sampling], Iterator[list[Completion]]]
"""Completes each of the conversations n times; yields completions, which refer to their conversation by its index."""

_pools: dict[object, DevicePool] = {}
"""The processes of the one model that is kept; the key is the model's name, its settings and its files."""


def completer_for(model: Model, settings: TransformersSettings) -> Complete:
    """Return the function that completes conversations by ``model``. Another model that is kept is released.

    Raises ``InputError`` if the model cannot be loaded: now if it runs in this process, else when it is first used.
    """
    names = parallel.device_names(settings)
    if len(names) == 1:
        _release_pools()
        return partial(complete, loading.load(model, settings), settings)
    key = (model.name, settings, loading.fingerprint(model))
    if key not in _pools:
        release_all()
        _pools[key] = DevicePool(model, [parallel.settings_of_one_process(settings, name) for name in names])
    return _pools[key].complete


def complete(
    loaded: LoadedModel,
    settings: TransformersSettings,
    conversations: Sequence[Conversation],
    n: int,
    sampling: Sampling,
) -> Iterator[list[Completion]]:
    """Complete conversations by a model that is loaded in this process, through its chat template."""
    prompts = [prompt_text(loaded.tokenizer, messages) for messages in conversations]
    return generate(loaded, prompts, n, sampling, settings.batch_size, settings.engine)


def release(model: Model) -> None:
    """Free the memory of ``model``, in this process and in others, if it is the one that is kept."""
    loading.release(model)
    if any(isinstance(key, tuple) and key[0] == model.name for key in _pools):
        _release_pools()


def release_all() -> None:
    """Free the memory of every model that is kept."""
    loading.release_all()
    _release_pools()


def _release_pools() -> None:
    while _pools:
        _pools.popitem()[1].close()
