"""The results of a stage, spread over the actors of the one pool that is kept.

The items of one chunk of the run share a seed and are computed together, whichever actor gets them. So a record depends
neither on the actor nor on the number of actors, and equals that of one process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import groupby
from typing import Any

from attrs import evolve

from tutelage import Context, Model, Sampling
from tutelage_ray.pool import Job, Pool
from tutelage_ray.settings import RaySettings, worker_model

_WAIT_SECONDS = 0.2
"""Maximum time until a cancellation by the user is noticed."""

_kept: dict[object, Pool] = {}
"""The one pool, by its model and settings."""
_lock = threading.Lock()


def results(
    hook: str, model: Model, items: Iterable[Any], sampling: Sampling, context: Context, **arguments: Any
) -> Iterator[Any]:
    """Yield the results of a stage for all items, in any order.

    Stops early if the user cancels. Raises the error of the plugin on the actors, with the node and the item in its
    message, and ``StageError`` if the cluster has no place for an actor.
    """
    settings = context.settings or RaySettings()
    jobs = [
        Job(hook, batch, {**arguments, "sampling": seeded})
        for batch, seeded in _batches(list(items), sampling, context, settings.batch_size)
    ]
    if not jobs or context.cancelled():
        return
    pool = _pool(worker_model(model, settings), settings)
    try:
        for job in jobs:
            pool.submit(job)
        waiting = {job.result for job in jobs}
        while waiting:
            done, waiting = wait(waiting, _WAIT_SECONDS, FIRST_COMPLETED)
            for one in done:
                yield from one.result()
            if context.cancelled():
                return
            if not done:
                pool.check()
    finally:
        for job in jobs:
            job.is_dropped = True


def release(model: Model, settings: RaySettings) -> None:
    """End the actors, if they hold this model."""
    if _key(worker_model(model, settings), settings) in _kept:
        release_all()


def release_all() -> None:
    """End all actors. The connection to the cluster stays."""
    with _lock:
        while _kept:
            _kept.popitem()[1].close()


atexit.register(release_all)  # runs before Ray's own function, which ends the connection


def _pool(model: Model, settings: RaySettings) -> Pool:
    """Return the actors that hold a model. Those of another model, or that failed, are replaced."""
    key = _key(model, settings)
    with _lock:
        pool = _kept.get(key)
        if pool is None or not pool.is_usable:
            while _kept:
                _kept.popitem()[1].close()
            pool = _kept[key] = Pool(model, settings)
        return pool


def _key(model: Model, settings: RaySettings) -> object:
    return model.name, repr(settings)


def _batches(
    items: Sequence[Any], sampling: Sampling, context: Context, size: int | None
) -> Iterator[tuple[list[Any], Sampling]]:
    """Yield the items of each chunk, in parts of ``size``, with the chunk's seed. It is ``sampling`` for one chunk."""
    for seed, chunk in groupby(items, lambda item: context.seeds.get(item.id, sampling.seed)):
        together, seeded = list(chunk), evolve(sampling, seed=seed)
        for start in range(0, len(together), size or len(together)):
            yield together[start : start + (size or len(together))], seeded
