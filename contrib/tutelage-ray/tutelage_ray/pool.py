"""A pool of actors that hold one model. Each has a thread here, which gives it the next items when it has finished.

Ray Data (``Dataset.map_batches`` with a class) starts its actors for one dataset, and ends them with it. A run asks for
a few chunks at a time, so each chunk would start actors and load the weights. This pool is kept until the model is
released. If an actor is lost with its node, its items are given to the next free actor, and a new actor is started
wherever the cluster has room.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from attrs import define, field

from tutelage import Model
from tutelage.errors import StageError, TutelageError
from tutelage_ray import cluster
from tutelage_ray.actor import Actor, Failed, Started, versions_of
from tutelage_ray.settings import RaySettings

ATTEMPTS = 3
"""Number of actors that may be lost with the same items, or while one is started, before the step fails."""
_END_SECONDS = 10.0
"""Maximum time to wait for the end of an actor."""


@define(eq=False)
class Job:
    """Items for one actor."""

    hook: str
    items: Sequence[Any]
    arguments: Mapping[str, Any]
    result: Future[list[Any]] = field(factory=Future)
    number: int = 0
    """Position in the queue: the job with the lowest number is the next one."""
    is_dropped: bool = False
    """Whether the results are not needed any more."""
    losses: int = 0
    """Number of actors that were lost with these items."""

    @property
    def name(self) -> str:
        """The items, for messages."""
        if len(self.items) == 1:
            return f"item {self.items[0].id!r}"
        return f"{len(self.items)} items from {self.items[0].id!r} to {self.items[-1].id!r}"


class Pool:
    """Actors with one model. ``close`` frees them."""

    def __init__(self, model: Model, settings: RaySettings) -> None:
        """Start the actors. Does not wait for them. Raises ``StageError`` if the cluster cannot be reached."""
        cluster.connect(settings.address)
        self._model, self._settings = model, settings
        self._versions = versions_of(model.plugin)
        self._jobs: queue.PriorityQueue[tuple[int, Job | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._actors: set[Any] = set()
        self._working = 0
        self._none_since = time.monotonic()
        self._error: TutelageError | None = None
        self._is_closed = False
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(settings.actors)]
        for thread in self._threads:
            thread.start()

    @property
    def is_usable(self) -> bool:
        """Whether the pool has not been closed and has not failed."""
        return not self._is_closed and self._error is None

    def submit(self, job: Job) -> None:
        """Add items to those that wait for an actor."""
        job.number = next(self._numbers)
        self._jobs.put((job.number, job))

    def check(self) -> None:
        """Raise the error that ended the pool, or ``StageError`` if there has been no actor for too long."""
        if self._error is not None:
            raise self._error
        if self._is_closed:
            raise StageError("plugin ray: the actors were released")
        if not self._working and time.monotonic() - self._none_since > self._settings.start_seconds:
            raise StageError(
                f"plugin ray: no actor could work for {self._settings.start_seconds:g} s (settings.start_seconds). An "
                f"actor needs {cluster.amounts(self._settings.cpus, self._settings.gpus)}, and the cluster has "
                f"{cluster.free_resources()} free. Finished results are kept, and the same command continues"
            )

    def close(self) -> None:
        """End the actors, which frees their memory and their share of the cluster, and wait for the threads."""
        self._end()
        for thread in self._threads:
            thread.join(_END_SECONDS)

    def _end(self) -> None:
        with self._lock:
            self._is_closed = True
            actors = list(self._actors)
        for actor in actors:
            cluster.end(actor)
        for _ in self._threads:
            self._jobs.put((-1, None))

    def _serve(self) -> None:
        """Keep one actor at work until the pool is closed. A lost actor is replaced."""
        failures = 0
        while self.is_usable:
            actor = self._new_actor()
            try:
                node = self._started(actor)
                failures = 0
                self._work(actor, node)
            except cluster.LOST as error:
                failures += 1
                if failures == ATTEMPTS:
                    packages = f"tutelage-ray and the package of the plugin {self._model.plugin!r}"
                    problem = f"{ATTEMPTS} actors in a row could not be started: {cluster.reason(error)}"
                    self._fail(StageError(f"plugin ray: {problem}; install {packages} on each node"))
            except TutelageError as error:
                self._fail(error)
            except Exception as error:
                failed = StageError(f"plugin ray: {type(error).__name__}: {cluster.reason(error)}")
                failed.__cause__ = error
                self._fail(failed)
            finally:
                with self._lock:
                    self._actors.discard(actor)
                cluster.end(actor)

    def _new_actor(self) -> Any:
        with self._lock:
            actor = cluster.start(Actor, self._model, self._settings.cpus, self._settings.gpus)
            self._actors.add(actor)
        if self._is_closed:
            cluster.end(actor)
        return actor

    def _started(self, actor: Any) -> str:
        """Wait until an actor can work. Returns its node. Raises ``StageError`` if its versions are others."""
        started: Started = cluster.result(actor.start.remote())
        if started.problem:
            raise StageError(f"plugin ray, {started.node}: {started.problem}")
        if started.versions != self._versions:
            raise StageError(
                f"plugin ray, {started.node}: it has {started.versions}, and this machine has {self._versions}; "
                "install the same versions on each node"
            )
        return started.node

    def _work(self, actor: Any, node: str) -> None:
        """Let an actor work until it is lost or the pool is closed."""
        with self._lock:
            self._working += 1
        try:
            while (job := self._jobs.get()[1]) is not None:
                if not job.is_dropped and not self._do(job, actor, node):
                    return
        finally:
            with self._lock:
                self._working -= 1
                self._none_since = time.monotonic()

    def _do(self, job: Job, actor: Any, node: str) -> bool:
        """Give a job to an actor and wait for its results. Returns whether the actor can still be used."""
        try:
            found: list[Any] | Failed = cluster.result(actor.work.remote(job.hook, job.items, job.arguments))
        except cluster.LOST as error:
            job.losses += 1
            if job.losses < ATTEMPTS:
                self._jobs.put((job.number, job))  # before all jobs that were submitted later
            else:
                lost = f"{ATTEMPTS} actors were lost with it, the last one with {cluster.reason(error)}"
                job.result.set_exception(StageError(f"plugin ray, {node}, {job.name}: {lost}"))
            return False
        except cluster.FAILED as error:
            job.result.set_exception(StageError(f"plugin ray, {node}, {job.name}: {cluster.reason(error)}"))
            return True
        if isinstance(found, Failed):
            about = f"item {found.item!r}" if found.item else job.name
            job.result.set_exception(found.error(f"plugin ray, {node}, {about}"))
        else:
            job.result.set_result(found)
        return True

    def _fail(self, error: TutelageError) -> None:
        self._error = self._error or error
        self._end()
