"""The models that a command selects from one or several runs, with names that identify them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from tutelage.errors import InputError
from tutelage.evaluation.measures import SeedMeasurement
from tutelage.evaluation.scores import GradedAnswer
from tutelage.planning.artifacts import VARIANTS
from tutelage.planning.steps import PlannedModel
from tutelage.recipe.variants import BASE
from tutelage.results.run_results import RunResults
from tutelage.runs.store import is_run


@frozen
class SelectedModel:
    """A model of a run, of all seeds or of one."""

    name: str
    """Its name among the selected models: ``M1``, ``M2/self-reward@dpo.beta=0.3``, ``other:M1``, ``M1 seed 2``."""
    run: str
    """The folder of the run, as it was given."""
    variant: str
    """Name of the variant of the run's recipe; ``base`` is the recipe itself."""
    model: str
    """Its id in the run."""
    seed: int | None
    """Seed of the answers; None selects those of all seeds."""
    results: RunResults = field(repr=False, eq=False)

    @property
    def group(self) -> tuple[str, str, int | None]:
        """The run, variant and seed: within them, the id of a model is unique."""
        return self.run, self.variant, self.seed

    def answers(self) -> list[GradedAnswer]:
        """Return the greedy answers with their gold scores. Raises ``InputError`` if a file is missing or damaged."""
        reader = self.results.reader
        return [answer for model in self.planned() for answer in reader.graded_answers(model, "greedy")]

    def measured(self, measure: str) -> list[SeedMeasurement]:
        """Return the values of a measure; none if it is not taken of the model."""
        return self.results.reader.measured(measure, self.model, self.seed) or []

    def is_measured(self, measure: str = "") -> bool:
        """Return whether the answers, their gold scores, and the values of a measure are complete for every seed."""
        store = self.results.run.store
        files = [model.files for model in self.planned()]
        paths = [path for one in files for path in (one.held_out("greedy"), one.gold("greedy"))]
        paths += [one.measured(measure) for one in files if measure]
        return all(map(store.has, paths))

    def planned(self) -> list[PlannedModel]:
        """Return the model of each of its seeds, as the plan of the run has it."""
        return [self.results.run.plan.model(seed, self.model) for seed in self.results.reader.seeds(self.seed)]


def select_models(
    sources: Sequence[tuple[Path, str]], variants: bool = False, by_seed: bool = False
) -> list[SelectedModel]:
    """Return the models of runs, each with a name of its own.

    A source is the folder of a run and the id of a model; an empty id selects all models of the run. With
    ``variants``, it also selects those of the variants of the run that exist. With ``by_seed``, each seed of a model
    is one entry. If two models would have the same name, the names of all models are preceded by the run's folder.

    Raises ``InputError`` if a folder contains no run, a run has no evaluation or no such model, or a model is
    selected twice.
    """
    found = [model for folder, id in sources for model in _models(folder, id, variants, by_seed)]
    chosen = Counter((model.results.run.root.resolve(), model.model, model.seed) for model in found)
    for (root, id, _), count in chosen.items():
        if count > 1:
            raise InputError(f"{root}: the model {id} is selected {count} times; name it once")
    if len({model.name for model in found}) == len(found):
        return found
    labels = run_labels(model.run for model in found)
    return [evolve(model, name=f"{labels[model.run]}:{model.name}") for model in found]


def run_labels(runs: Iterable[str]) -> dict[str, str]:
    """Return a short name for each folder of a run: its last part, or the whole path if two last parts are equal."""
    folders = list(dict.fromkeys(runs))
    names = Counter(Path(folder).resolve().name for folder in folders)
    return {
        folder: Path(folder).resolve().name if names[Path(folder).resolve().name] == 1 else folder for folder in folders
    }


def _models(folder: Path, id: str, variants: bool, by_seed: bool) -> Iterator[SelectedModel]:
    owner, variant = _owner(folder)
    results = RunResults.open(folder)
    ids = [id] if id else results.models()
    for model in ids:
        results.check_model(model)
        for seed in results.run.recipe.seeds if by_seed else (None,):
            name = model if variant == BASE else f"{model}@{variant}"
            yield SelectedModel(
                name if seed is None else f"{name} seed {seed}", str(owner), variant, model, seed, results
            )
    if variants and not id and variant == BASE:
        for path in sorted(folder.joinpath(VARIANTS).glob("*")):
            if is_run(path):
                yield from _models(path, "", variants, by_seed)


def _owner(folder: Path) -> tuple[Path, str]:
    """Return the folder of the run that a folder of a variant belongs to, and the name of the variant."""
    if folder.parent.name == VARIANTS and is_run(folder.parent.parent):
        return folder.parent.parent, folder.name
    return folder, BASE
