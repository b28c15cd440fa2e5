"""A run on disk: its store, its recipe and the plan of the recipe."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from tutelage.errors import InputError, nearest
from tutelage.planning.artifacts import RECIPE, SUMMARY, VARIANTS
from tutelage.planning.declared import BUILT_IN, Declared
from tutelage.planning.evaluation_plan import EvaluationPlan
from tutelage.planning.pipelines import make_plan
from tutelage.planning.roles import bound_model
from tutelage.planning.steps import Plan, PlannedModel, Worker
from tutelage.plugins.registry import Registry
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.schema import Recipe
from tutelage.records import Model
from tutelage.runs.declarations import stored_declarations
from tutelage.runs.store import Store, open_run


@frozen
class Run:
    """A run. The runner that writes a run and all readers of runs use this class."""

    store: Store
    recipe: Recipe
    plan: Plan
    declared: Declared = BUILT_IN
    """The declarations of the recipe's pipelines and controls."""

    @classmethod
    def open(cls, root: Path) -> Run:
        """Open the run in a folder. Raises InputError if the folder contains no run, or its recipe is damaged."""
        store = open_run(root)
        recipe = load_recipe(store.path(RECIPE))
        known = stored_declarations(store, recipe)
        return cls(store, recipe, make_plan(recipe, declared=known), known)

    @property
    def root(self) -> Path:
        """The run's folder."""
        return self.store.root

    @property
    def summary(self) -> Path:
        """The path of ``summary.json``, which exists once the run is finished."""
        return self.store.path(SUMMARY)

    def models(self, seed: int | None = None) -> RunModels:
        """Return the models of one seed; None is the run's first seed. Raises InputError if the run lacks the seed."""
        chosen = self.recipe.seeds[0] if seed is None else seed
        if chosen not in self.recipe.seeds:
            seeds = ", ".join(map(str, self.recipe.seeds))
            raise InputError(f"{self.root}: no seed {chosen}; the seeds of this run are {seeds}")
        return RunModels(self, chosen)

    def evaluation_plan(self, seed: int) -> EvaluationPlan:
        """Return the plan of the evaluation of one seed's models."""
        return EvaluationPlan(self.recipe, seed, self.plan.models_of(seed))

    def model(self, worker: Worker, registry: Registry) -> Model:
        """Return the model of a worker for the stages: the bound model, with the weights of its checkpoint if any."""
        bound = bound_model(self.recipe, worker.role, registry)
        name = str(self.store.complete(worker.checkpoint)) if worker.checkpoint else bound.name
        return evolve(bound, name=name, id=worker.id)

    def has(self, model: PlannedModel) -> bool:
        """Return whether a model can be used: M0 always, a trained model once its checkpoint is finished."""
        return not model.worker.checkpoint or self.store.has(model.worker.checkpoint)


@frozen
class RunModels:
    """The models of one seed of a run, by id: ``M1``, ``M2/self-reward``."""

    run: Run
    """The run."""
    seed: int
    """Seed of the models."""

    @classmethod
    def open(cls, root: Path, seed: int | None = None) -> RunModels:
        """Open the models of the run in a folder. Arguments and errors are those of ``Run.open`` and ``Run.models``."""
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
        """Return the ids of the models that can be used: M0, and those whose training is finished."""
        return [model.id for model in self.models if self.run.has(model)]

    def last(self) -> str:
        """Return the id of the last finished model of the recipe's first pipeline; M1 or M0 if it has none yet."""
        first = next(iter(self.recipe.pipelines))
        finished = [model.id for model in self.models if model.pipeline in (None, first) and self.run.has(model)]
        return finished[-1]

    def model(self, id: str, registry: Registry) -> Model:
        """Return a model for the stages. Raises the errors of ``planned``."""
        return self.run.model(self.planned(id).worker, registry)

    def planned(self, id: str) -> PlannedModel:
        """Return a model that can be used. Raises InputError if the id is unknown, or the model is not trained yet."""
        known = {model.id: model for model in self.models}
        model, _, variant = id.partition("@")
        if variant and model in known:
            folder = self.store.path(f"{VARIANTS}/{variant}")
            raise InputError(f"{self.run.root}: {id} is the model {model} of the run in {folder}; name that folder")
        if id not in known:
            raise InputError(f"{self.run.root}: no model {id!r}{nearest(id, known)}")
        if not self.run.has(known[id]):
            trained = ", ".join(self.trained())
            raise InputError(f"{self.run.root}: {id} is not trained yet; the finished models are {trained}")
        return known[id]
