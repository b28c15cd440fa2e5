"""The argument and the result of the actions of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from tutelage.context import Context
from tutelage.planning.sources import Sources
from tutelage.planning.steps import JoinPairs, Step, Transform, Worker
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Model, Prompt
from tutelage.runs.durable import DurableStage
from tutelage.runs.run import Run
from tutelage.runs.store import Store

Counts = Mapping[str, int]


@frozen
class Artifact:
    """The result of a step, before it is written to its path."""

    counts: Counts
    """Number of items, by outcome or by the reason for which they were dropped."""
    commit: Callable[[], object]
    """Writes or renames the artifact to its path."""
    rows: int | None = None
    """Number of rows, if the artifact is a JSON-lines file."""
    folder: Path | None = None
    """The temporary folder, if the artifact is a folder."""


@frozen
class StepContext:
    """The run, the plugins, and the context for stages, as the actions of steps need them."""

    run: Run
    registry: Registry
    context: Context
    sources: Sources
    """The data of the recipe."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.run.recipe

    @property
    def store(self) -> Store:
        """The store of the run."""
        return self.run.store

    def model(self, worker: Worker) -> Model:
        """Return the model of a worker: the bound model, or a checkpoint of the run."""
        return self.run.model(worker, self.registry)

    def durable_stage(self, worker: Worker, chunk: int | None = None) -> DurableStage:
        """Return the durable calls of a worker, ``chunk`` items at a time; None is the recipe's ``chunk``."""
        return DurableStage(self.registry, self.model(worker), self.context, chunk or self.recipe.chunk)

    def may_be_empty(self, step: Step) -> bool:
        """Whether a step may leave no records, because a pipeline only joins them with others or transforms them.

        What is trained on needs records, and so do the pairs of each round if those of several rounds are joined.
        """
        plan = self.run.plan
        files = [model.files for model in plan.models]
        of_rounds = {path for one in files for path in (one.joined_preferences, one.preferences_of_all_rounds)}
        readers = [one for one in plan.steps if step.output in one.inputs]
        return bool(readers) and all(
            isinstance(one, JoinPairs | Transform) and one.output not in of_rounds for one in readers
        )

    def prompts(self, path: str, take: int | None = None) -> list[Prompt]:
        """Return the prompts of an artifact; only the first ``take`` of them if it is not None."""
        return self.store.read(path, Prompt)[:take]


def rows_artifact(step: Step, at: StepContext, unit: str, rows: Sequence[Any]) -> Artifact:
    """Return the artifact of a step that made ``rows``, with their number as the count of ``unit``."""
    return Artifact({unit: len(rows)}, lambda: at.store.write(step.output, rows), rows=len(rows))
