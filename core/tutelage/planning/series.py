"""The series of models of one seed, and the steps that its pipelines share: M1, fresh prompts, the user's pairs."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from tutelage.planning.artifacts import own_preferences
from tutelage.planning.declared import BUILT_IN, Declared
from tutelage.planning.roles import answerer
from tutelage.planning.steps import (
    BuildExamples,
    PlannedModel,
    SelectPreferences,
    SelectPrompts,
    Step,
    Train,
    Worker,
    WritePrompts,
)
from tutelage.recipe.schema import OWN_PREFERENCES, Recipe


@frozen
class SourceCounts:
    """Number of rows of each source that the recipe names no ``count`` for. 0 if it is not known."""

    ift: int = 0
    eft: int = 0
    evaluation: int = 0
    """Number of held-out prompts."""


@frozen
class Series:
    """The models of one seed."""

    recipe: Recipe
    seed: int
    counts: SourceCounts = SourceCounts()  # frozen, so safe to share
    declared: Declared = BUILT_IN

    def models(self) -> list[PlannedModel]:
        """Return M0, M1, then round by round the model of each pipeline. The controls are in the first round.

        Without seed examples there is no M1.
        """
        found = [PlannedModel("M0", self.seed, None, 0, None)]
        if self.recipe.data.has_seed_examples:
            found.append(PlannedModel("M1", self.seed, None, 1, "M0"))
        for round_number in range(1, self.recipe.iterations + 1):
            names = [*self.pipelines_of(round_number), *(self.recipe.controls if round_number == 1 else ())]
            found += [self.model(name, round_number + 1) for name in names]
        return found

    def pipelines_of(self, round_number: int) -> list[str]:
        """Return the names of the pipelines that train a model in a round."""
        pipelines = self.declared.pipelines
        return [name for name in self.recipe.pipelines if round_number == 1 or not pipelines[name].once]

    def model(self, pipeline: str, iteration: int) -> PlannedModel:
        """Return the shared start model if ``iteration`` is 1, otherwise the model of a pipeline or control.

        The start model is M1. Without seed examples it is M0.
        """
        if iteration < 1 or (iteration == 1 and not self.recipe.data.has_seed_examples):
            return PlannedModel("M0", self.seed, None, 0, None)
        if iteration == 1:
            return PlannedModel("M1", self.seed, None, 1, "M0")
        parent = self.model(pipeline, iteration - 1).id
        return PlannedModel(f"M{iteration}/{pipeline}", self.seed, pipeline, iteration, parent)

    def first_model(self) -> Iterator[Step]:
        """Yield the steps of M1: its examples and its training. None without seed examples."""
        recipe = self.recipe
        if not recipe.data.has_seed_examples:
            return
        model = self.model("", 1)
        examples = model.files.examples
        sources = ((recipe.data.ift, self.counts.ift), (recipe.data.eft, self.counts.eft))
        count = sum(rows if source.count is None else source.count for source, rows in sources if source)
        yield BuildExamples(output=examples, count=count, seed=self.seed)
        yield Train(
            output=model.files.checkpoint,
            count=round(count * recipe.sft.epochs),
            seed=self.seed,
            examples=examples,
            start=Worker("student", "M0"),
            reference=None,
            objective=evolve(recipe.sft, seed=self.seed),
            model=model.id,
        )

    def fresh_prompts(self, model: PlannedModel, round_number: int) -> Step:
        """Return the step for the prompts that a model answers in a round; all pipelines from this model share them.

        A model writes the prompts, or they are a slice of the source. No two rounds take the same slice.
        """
        source, self_instruct = self.recipe.data.fresh_prompts.source, self.recipe.data.self_instruct
        if self_instruct is None:
            return SelectPrompts(
                output=model.files.prompts,
                count=self.prompt_count,
                seed=self.seed,
                source=source,
                skip=(round_number - 1) * self.prompt_count,
                take=self.prompt_count,
                decontaminate=True,
            )
        before = (self.model(model.pipeline or "", iteration) for iteration in range(1, model.iteration))
        return WritePrompts(
            output=model.files.prompts,
            count=self.prompt_count,
            seed=self.seed,
            worker=answerer(self.recipe, model) if self_instruct.writer == "student" else Worker("teacher", "teacher"),
            source=source,
            earlier=tuple(earlier.files.prompts for earlier in before),
            sampling=self_instruct.sampling(),
        )

    def given_pairs(self) -> Iterator[Step]:
        """Yield the step that draws the user's pairs of this seed. All models that train on them share it."""
        if (source := self.recipe.data.preferences) is not None:
            yield SelectPreferences(
                output=self.given_path, count=self.given_count, seed=self.seed, source=source.source
            )

    def joins_given(self, pipeline: str) -> bool:
        """Whether the user's pairs join those of a pipeline."""
        return self.recipe.data.preferences is not None and pipeline in self.recipe.data.preferences.join

    @property
    def given_path(self) -> str:
        """Path of the user's pairs of this seed: the pairs of ``own-preferences`` if the recipe runs this pipeline."""
        if OWN_PREFERENCES in self.recipe.pipelines:
            return self.model(OWN_PREFERENCES, 2).files.preferences
        return own_preferences(self.seed)

    @property
    def given_count(self) -> int:
        """Number of the user's pairs."""
        return (self.recipe.data.preferences.count or 0) if self.recipe.data.preferences else 0

    @property
    def prompt_count(self) -> int:
        """Number of fresh prompts per iteration."""
        return (self.recipe.data.prompts.count or 0) if self.recipe.data.prompts else 0
