"""The models of a run, by the names that it gives them: ``M1``, ``M2/self-reward``."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from tutelage.context import Context
from tutelage.errors import InputError, nearest
from tutelage.pipelines import make_plan
from tutelage.recipe import Recipe
from tutelage.recipe_files import load
from tutelage.records import Model
from tutelage.registry import Registry
from tutelage.steps import PlannedModel
from tutelage.store import Store, open_run
from tutelage.surroundings import Surroundings


@frozen
class RunModels:
    """The models of one seed of a run."""

    store: Store
    recipe: Recipe
    models: tuple[PlannedModel, ...]

    @classmethod
    def open(cls, root: Path, seed: int | None = None) -> RunModels:
        """The models of a run; of its first seed, unless ``seed`` is given. Raises InputError where there is none."""
        store = open_run(root)
        recipe = load(store.path("recipe.yaml"))
        chosen = recipe.seeds[0] if seed is None else seed
        if chosen not in recipe.seeds:
            raise InputError(f"{root}: no seed {chosen}; this run has {', '.join(map(str, recipe.seeds))}")
        return cls(store, recipe, make_plan(recipe).models_of(chosen))

    def trained(self) -> list[str]:
        """Ids of the models that can be used: M0, and those whose training is finished."""
        return [model.id for model in self.models if self._is_there(model)]

    def last(self) -> str:
        """The last finished model of the recipe's first pipeline; M1, or M0, where there is none yet."""
        first = next(iter(self.recipe.pipelines))
        line = [model.id for model in self.models if model.pipeline in (None, first) and self._is_there(model)]
        return line[-1]

    def model(self, id: str, registry: Registry) -> Model:
        """A model as the stages take it. Raises InputError where the run has no such model, or not yet."""
        return Surroundings(self.recipe, registry, self.store, Context()).model(self.planned(id).worker)

    def planned(self, id: str) -> PlannedModel:
        """A model that can be used, as the plan has it. Raises InputError where the run has no such one, or not yet."""
        for planned in self.models:
            if planned.id == id and self._is_there(planned):
                return planned
        if any(planned.id == id for planned in self.models):
            raise InputError(
                f"{self.store.root}: {id} is not trained yet; so far there are {', '.join(self.trained())}"
            )
        raise InputError(f"{self.store.root}: no model {id!r}{nearest(id, [model.id for model in self.models])}")

    def _is_there(self, planned: PlannedModel) -> bool:
        checkpoint = planned.worker.checkpoint
        return not checkpoint or self.store.has(checkpoint)
