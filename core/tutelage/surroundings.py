"""What every action of a step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from tutelage.checks import bound_model
from tutelage.context import Context
from tutelage.errors import Interrupted
from tutelage.items import derive_seed
from tutelage.recipe import Recipe
from tutelage.records import Model, Prompt, Sampling
from tutelage.registry import Registry
from tutelage.steps import Step, Worker
from tutelage.store import Store

Counts = Mapping[str, int]
STOPPED = "stopped as asked; what is finished is kept, and the same command continues"


@frozen
class Made:
    """A finished step that is not in its place yet."""

    counts: Counts
    """What became of the items, by outcome or by the reason for which they were dropped."""
    put: Callable[[], object]
    """Puts the artifact into its place."""


@frozen
class Surroundings:
    """What every action needs: the recipe, the plugins, the run, and how to tell of progress."""

    recipe: Recipe
    registry: Registry
    store: Store
    context: Context

    @property
    def quiet(self) -> Context:
        """The context of stages whose results are counted here as they come."""
        return evolve(self.context, advance=lambda _: None, expect=lambda _: None)

    def model(self, worker: Worker) -> Model:
        """The model of a worker: as it is bound, or with the run's own weights."""
        bound = bound_model(self.recipe, worker.role, self.registry)
        name = str(self.store.path(worker.checkpoint)) if worker.checkpoint else bound.name
        return evolve(bound, name=name, id=worker.id)

    def prompts(self, path: str, take: int | None = None) -> list[Prompt]:
        """The prompts of an artifact, or its first ``take``."""
        return self.store.read(path, Prompt)[:take]


def made_rows(step: Step, at: Surroundings, what: str, rows: Sequence[Any]) -> Made:
    """A step whose artifact is rows that are all there."""
    return Made({what: len(rows)}, lambda: at.store.write(step.output, rows))


def seeded(step: Step, sampling: Sampling, chunk: int) -> Sampling:
    """The sampling of one chunk of a step, with a seed of its own."""
    return evolve(sampling, seed=derive_seed(step.seed, step.output, chunk))


def stop_if_asked(step: Step, context: Context) -> None:
    """Raise Interrupted where the user asked to stop: the stage returned early, so its artifact would not be whole."""
    if context.cancelled():
        raise Interrupted(f"{step.output}: {STOPPED}")
