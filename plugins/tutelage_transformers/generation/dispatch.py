"""Where prompts are completed: in this process, or in several kept worker processes, one for each device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tutelage.records import Model, Sampling
from tutelage_transformers.devices import parallel
from tutelage_transformers.generation import shared_model
from tutelage_transformers.generation.engine import Completion, OnText, generate
from tutelage_transformers.generation.shared_model import SharedModel
from tutelage_transformers.generation.weighing import ReplyProbabilities, reply_probabilities
from tutelage_transformers.models import loading
from tutelage_transformers.models.chat import Conversation, prompt_text
from tutelage_transformers.models.loading import LoadedModel
from tutelage_transformers.settings import TransformersSettings

Complete = Callable[[Sequence[Conversation], int, Sampling, Sequence[int], OnText | None], Iterator[list[Completion]]]
"""Completes each of the conversations n times; yields completions, which refer to their conversation by its index. The
last arguments are the seed of each conversation, in place of that of the sampling, and ``on_text`` of
``engine.generate``."""

Weigh = Callable[[Sequence[Conversation], Sequence[str]], Iterator[list[ReplyProbabilities]]]
"""Computes the probabilities of the last tokens of some replies to each of the conversations."""

_shared: list[str] = []
"""Name of the one model that the kept processes hold, or nothing."""


def completer_for(model: Model, settings: TransformersSettings) -> Complete:
    """Return the function that completes conversations by ``model``. Another model that is kept is released.

    Raises ``InputError`` if the model cannot be loaded: now if it runs in this process, else when it is first used.
    """
    found = _loaded(model, settings)
    return found.complete if isinstance(found, SharedModel) else partial(complete, found, settings)


def weigher_for(model: Model, settings: TransformersSettings) -> Weigh:
    """Return the function that gives the probabilities of replies by ``model``, as ``completer_for`` does."""
    found = _loaded(model, settings)
    return found.weigh if isinstance(found, SharedModel) else partial(weigh, found, settings)


def _loaded(model: Model, settings: TransformersSettings) -> LoadedModel | SharedModel:
    """Load a model in this process or in the kept ones. Another model that is kept is released."""
    names = parallel.device_names(settings)
    if len(names) == 1:
        release_shared()
        return loading.load(model, settings)
    loading.release_all()
    shared = SharedModel(model, settings, tuple(names))
    _shared[:] = [model.name]
    shared.load()
    return shared


def complete(
    loaded: LoadedModel,
    settings: TransformersSettings,
    conversations: Sequence[Conversation],
    n: int,
    sampling: Sampling,
    seeds: Sequence[int],
    on_text: OnText | None = None,
) -> Iterator[list[Completion]]:
    """Complete conversations by a model that is loaded in this process, through its chat template."""
    prompts = [prompt_text(loaded.tokenizer, messages) for messages in conversations]
    return generate(loaded, prompts, n, sampling, settings.batch_size, settings.engine, seeds, on_text)


def weigh(
    loaded: LoadedModel, settings: TransformersSettings, conversations: Sequence[Conversation], replies: Sequence[str]
) -> Iterator[list[ReplyProbabilities]]:
    """Compute the probabilities of ``replies`` to conversations, by a model that is loaded in this process."""
    prompts = [prompt_text(loaded.tokenizer, messages) for messages in conversations]
    return reply_probabilities(loaded, prompts, replies, settings.batch_size, settings.engine)


def release(model: Model) -> None:
    """Free the memory of ``model``, in this process and in the kept ones, if it is the one that is kept."""
    loading.release(model)
    if model.name in _shared:
        release_shared()


def release_all() -> None:
    """Free the memory of every model that is kept. The kept processes stay."""
    loading.release_all()
    release_shared()


def release_shared() -> None:
    """Free the memory of the model that the kept processes hold. The processes stay."""
    if _shared:
        _shared.clear()
        shared_model.release()
