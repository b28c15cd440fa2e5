"""What every action of a step is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from tutelage.context import Context
from tutelage.planning.steps import Step, Worker
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Model, Prompt
from tutelage.runs.durable import DurableStage
from tutelage.runs.run import Run
from tutelage.runs.store import Store

Counts = Mapping[str, int]


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

    def model(self, worker: Worker) -> Model:
        """The model of a worker: as it is bound, or with the run's own weights."""
        return self.run.model(worker, self.registry)

    def asking(self, worker: Worker, chunk: int | None = None) -> DurableStage:
        """The model of a worker, asked durably, ``chunk`` items at a time; the recipe's number if None."""
        return DurableStage(self.registry, self.model(worker), self.context, chunk or self.recipe.chunk)

    def prompts(self, path: str, take: int | None = None) -> list[Prompt]:
        """The prompts of an artifact, or its first ``take``."""
        return self.store.read(path, Prompt)[:take]


def made_rows(step: Step, at: StepContext, what: str, rows: Sequence[Any]) -> Artifact:
    """A step whose artifact is rows that are all there."""
    return Artifact({what: len(rows)}, lambda: at.store.write(step.output, rows))
