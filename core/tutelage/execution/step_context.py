"""What every action of a step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import Interrupted
from tutelage.planning.steps import Step, Worker
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Model, Prompt, Sampling
from tutelage.runs.durable import derive_seed
from tutelage.runs.run import Run
from tutelage.runs.store import Store

Counts = Mapping[str, int]
STOPPED = "stopped as asked; what is finished is kept, and the same command continues"


@frozen
class Artifact:
    """A finished step that is not in its place yet."""

    counts: Counts
    """What became of the items, by outcome or by the reason for which they were dropped."""
    commit: Callable[[], object]
    """Writes the artifact, or renames it, to its path."""


@frozen
class StepContext:
    """What every action needs: the recipe, the plugins, the run, and how to tell of progress."""

    run: Run
    registry: Registry
    context: Context

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.run.recipe

    @property
    def store(self) -> Store:
        """The store of the run."""
        return self.run.store

    @property
    def quiet(self) -> Context:
        """The context of stages whose results are counted here as they come."""
        return evolve(self.context, advance=lambda _: None, expect=lambda _: None)

    def model(self, worker: Worker) -> Model:
        """The model of a worker: as it is bound, or with the run's own weights."""
        return self.run.model(worker, self.registry)

    def prompts(self, path: str, take: int | None = None) -> list[Prompt]:
        """The prompts of an artifact, or its first ``take``."""
        return self.store.read(path, Prompt)[:take]


def made_rows(step: Step, at: StepContext, what: str, rows: Sequence[Any]) -> Artifact:
    """A step whose artifact is rows that are all there."""
    return Artifact({what: len(rows)}, lambda: at.store.write(step.output, rows))


def seeded(step: Step, sampling: Sampling, chunk: int) -> Sampling:
    """The sampling of one chunk of a step, with a seed of its own."""
    return evolve(sampling, seed=derive_seed(step.seed, step.output, chunk))


def stop_if_asked(step: Step, context: Context) -> None:
    """Raise Interrupted where the user asked to stop: the stage returned early, so its artifact would not be whole."""
    if context.cancelled():
        raise Interrupted(f"{step.output}: {STOPPED}")
