"""One run on disk, opened once: its store, the recipe that made it, and the plan of that recipe."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.planning.artifacts import RECIPE, SUMMARY
from tutelage.planning.evaluation_plan import EvaluationPlan
from tutelage.planning.pipelines import make_plan
from tutelage.planning.roles import bound_model
from tutelage.planning.steps import Plan, PlannedModel, Worker
from tutelage.plugin.registry import Registry
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.records import Model
from tutelage.runs.store import Store, open_run


@frozen
class Run:
    """A run: every reader of a run, and the runner that writes it, works on one of these."""

    store: Store
    recipe: Recipe
    plan: Plan

    @classmethod
    def open(cls, root: Path) -> Run:
        """Open the run in a folder. Raises InputError if the folder holds no run, or its recipe is damaged."""
        store = open_run(root)
        recipe = load_recipe(store.path(RECIPE))
        return cls(store, recipe, make_plan(recipe))

    @property
    def root(self) -> Path:
        """The run's folder."""
        return self.store.root

    @property
    def summary(self) -> Path:
        """The path of ``summary.json``, which exists once the run is finished."""
        return self.store.path(SUMMARY)

    def models(self, seed: int | None = None) -> RunModels:
        """The models of one seed; of the first seed if None. Raises InputError if the run has no such seed."""
        chosen = self.recipe.seeds[0] if seed is None else seed
        if chosen not in self.recipe.seeds:
            seeds = ", ".join(map(str, self.recipe.seeds))
            raise InputError(f"{self.root}: no seed {chosen}; this run has {seeds}")
        return RunModels(self, chosen)

    def evaluation_plan(self, seed: int) -> EvaluationPlan:
        """What is measured of the models of one seed."""
        return EvaluationPlan(self.recipe, seed, self.plan.models_of(seed))

    def model(self, worker: Worker, registry: Registry) -> Model:
        """A worker of the plan as the stages take it: the bound model, or the weights of a checkpoint of this run."""
        bound = bound_model(self.recipe, worker.role, registry)
        name = str(self.store.path(worker.checkpoint)) if worker.checkpoint else bound.name
        return evolve(bound, name=name, id=worker.id)

    def has(self, model: PlannedModel) -> bool:
        """Whether a model can be used: M0 always, a trained model once its checkpoint is finished."""
        return not model.worker.checkpoint or self.store.has(model.worker.checkpoint)


@frozen
class RunModels:
    """The models of one seed of a run, by the ids that the run gives them: ``M1``, ``M2/self-reward``."""

    run: Run
    seed: int

    @classmethod
    def open(cls, root: Path, seed: int | None = None) -> RunModels:
        """The models of a run in a folder; see ``Run.open`` and ``Run.models`` for the arguments and the errors."""
        return Run.open(root).models(seed)

    @property
    def store(self) -> Store:
        """The run's store."""
        return self.run.store

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def models(self) -> tuple[PlannedModel, ...]:
        """Every planned model of the seed, M0 first."""
        return self.run.plan.models_of(self.seed)

    def trained(self) -> list[str]:
        """Ids of the models that can be used: M0, and those whose training is finished."""
        return [model.id for model in self.models if self.run.has(model)]

    def last(self) -> str:
        """The id of the last finished model of the recipe's first pipeline; M1 or M0 if it has none yet."""
        first = next(iter(self.recipe.pipelines))
        finished = [model.id for model in self.models if model.pipeline in (None, first) and self.run.has(model)]
        return finished[-1]

    def model(self, id: str, registry: Registry) -> Model:
        """A model as the stages take it. Raises InputError as ``planned``."""
        return self.run.model(self.planned(id).worker, registry)

    def planned(self, id: str) -> PlannedModel:
        """A model that can be used. Raises InputError if the run has no model of that id, or has not trained it yet."""
        known = {model.id: model for model in self.models}
        if id not in known:
            raise InputError(f"{self.run.root}: no model {id!r}{nearest(id, known)}")
        if not self.run.has(known[id]):
            trained = ", ".join(self.trained())
            raise InputError(f"{self.run.root}: {id} is not trained yet; the models so far are {trained}")
        return known[id]
