"""The training data of a recipe: the sets of the plugins, the examples of M1, the user's pairs, the fresh prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from attrs import evolve, field, frozen

from tutelage.data.contamination import EvaluationPrompts
from tutelage.data.decontamination import Dropped, evaluation_prompts, fresh_rows, without_held
from tutelage.data.sets import Sets, load_examples, load_preferences, load_prompts, load_rated
from tutelage.examples import Example, Preference, RatedExample
from tutelage.files.trl_format import supervised_row
from tutelage.planning.declared import Declared, declared
from tutelage.planning.series import SourceCounts
from tutelage.plugins.registry import Registry
from tutelage.preferences.judging import question_messages, render, reply
from tutelage.recipe.schema import Recipe
from tutelage.records import JudgeItem, Prompt, user_texts

T = TypeVar("T")
SeedExample = tuple[Literal["ift", "eft"], dict[str, Any], Dropped | None]
"""Kind, row, and the evaluation prompt that the example contains; None if it can be used."""


def sets_of(registry: Registry) -> Sets:
    """Return the sets that the installed plugins offer."""
    return Sets(
        lambda name: registry.find("prompt_sets", name),
        lambda name: registry.find("example_sets", name),
        lambda name: registry.find("rated_sets", name),
        lambda name: registry.find("preference_sets", name),
    )


@frozen(eq=False)
class Sources:
    """The data of one recipe. Each source is loaded once per seed and kept, so that several checks can share it.

    Each method raises InputError if its source is missing, damaged, or has too few rows.
    """

    recipe: Recipe
    registry: Registry
    _kept: dict[tuple[str, int], Any] = field(factory=dict)

    def like(self, recipe: Recipe) -> Sources:
        """Return the data of another recipe. It is read once for both if the keys that select it are equal."""
        keys = ("data", "iterations")
        same = all(getattr(recipe, key) == getattr(self.recipe, key) for key in keys)
        same = same and recipe.judging.rubric == self.recipe.judging.rubric
        prompts = [one.evaluation and one.evaluation.prompts for one in (recipe, self.recipe)]
        return Sources(recipe, self.registry, self._kept if same and prompts[0] == prompts[1] else {})

    @property
    def sets(self) -> Sets:
        """The sets that the installed plugins offer."""
        return sets_of(self.registry)

    @property
    def declared(self) -> Declared:
        """The declarations of the recipe's pipelines and controls."""
        return declared(self.recipe, self.registry)

    def known(self, seed: int) -> EvaluationPrompts | None:
        """Return the index of the evaluation prompts; None if the recipe turns decontamination off."""
        return self._once("known", seed, lambda: evaluation_prompts(self.recipe, self.sets, seed))

    def ift(self, seed: int) -> list[SeedExample]:
        """Return the IFT examples; a row has the instruction and its answer. Empty without ``data.ift``."""
        return self._once("ift", seed, lambda: list(self._ift(seed)))

    def eft(self, seed: int) -> list[SeedExample]:
        """Return the EFT examples; a row has the judge prompt of the answer and the expected reply."""
        return self._once("eft", seed, lambda: list(self._eft(seed)))

    def preferences(self, seed: int) -> list[tuple[Preference, Dropped | None]]:
        """Return the user's pairs, each with the evaluation prompt that one of its texts contains, or None."""
        return self._once("preferences", seed, lambda: list(self._preferences(seed)))

    def fresh(self, seed: int) -> list[Prompt]:
        """Return the fresh prompts of all rounds, taken from the source."""
        return [prompt for prompt, held in self.fresh_rows(seed) if held is None]

    def fresh_rows(self, seed: int) -> list[tuple[Prompt, Dropped | None]]:
        """Return the prompts of all rounds, and those before the last one that contain an evaluation prompt."""
        return self._once("fresh", seed, lambda: self._fresh(seed))

    def evaluation(self, seed: int) -> list[Prompt]:
        """Return the held-out prompts; empty without ``evaluation``."""
        return self._once("evaluation", seed, lambda: self._evaluation(seed))

    def counts(self) -> SourceCounts:
        """Return the number of rows of the sources for which the recipe names no count, with the first seed."""
        seed = self.recipe.seeds[0]
        return SourceCounts(ift=len(self.ift(seed)), eft=len(self.eft(seed)), evaluation=len(self.evaluation(seed)))

    def conversations(self, seed: int) -> Iterator[tuple[str, ...]]:
        """Yield the roles of the messages of each conversation, without the answer: ``("system", "user")``."""
        for _, row, _ in (*self.ift(seed), *self.eft(seed)):
            yield tuple(message["role"] for message in row["prompt"])
        prompts: list[Prompt | Preference] = [*self.evaluation(seed), *(pair for pair, _ in self.preferences(seed))]
        if self.recipe.data.prompts is not None and self.recipe.data.self_instruct is None:
            prompts += self.fresh(seed)
        for prompt in prompts:
            yield tuple(message.role for message in prompt.turns)

    def _once(self, name: str, seed: int, load: Callable[[], T]) -> T:
        if (name, seed) not in self._kept:
            self._kept[name, seed] = load()
        loaded: T = self._kept[name, seed]
        return loaded

    def _ift(self, seed: int) -> Iterator[SeedExample]:
        if (source := self.recipe.data.ift) is not None:
            examples = load_examples(self.sets, source.source, source.count, seed)
            for example, held in without_held(examples, _texts, self.known(seed)):
                yield "ift", supervised_row(example.turns, example.answer), held

    def _eft(self, seed: int) -> Iterator[SeedExample]:
        if (source := self.recipe.data.eft) is not None:
            rubric = self.registry.get("rubrics", self.recipe.judging.rubric)
            rated = load_rated(self.sets, source.source, source.count, seed, rubric)
            for rating, held in without_held(rated, _texts, self.known(seed)):
                question = render(rubric, JudgeItem("", rating.prompt, rating.answer))
                messages = question_messages(rubric, question)
                yield "eft", supervised_row(messages, reply(rating.score, rating.reason)), held

    def _preferences(self, seed: int) -> Iterator[tuple[Preference, Dropped | None]]:
        if (source := self.recipe.data.preferences) is not None:
            pairs = load_preferences(self.sets, source.source, source.count, seed)
            yield from without_held(
                pairs, lambda one: (*user_texts(one.turns), one.chosen, one.rejected), self.known(seed)
            )

    def _fresh(self, seed: int) -> list[tuple[Prompt, Dropped | None]]:
        prompts = self.recipe.data.fresh_prompts
        wanted = (prompts.count or 0) * self.recipe.iterations
        known = self.known(seed)
        return fresh_rows(lambda count: load_prompts(self.sets, prompts.source, count, seed), wanted, known)

    def _evaluation(self, seed: int) -> list[Prompt]:
        if self.recipe.evaluation is None:
            return []
        prompts = self.recipe.evaluation.prompts
        return load_prompts(self.sets, prompts.source, prompts.count, seed)


def without_decontamination(sources: Sources) -> Sources:
    """Return the sources of the same recipe without decontamination, for checks if its evaluation prompts are wrong."""
    recipe = sources.recipe
    return Sources(evolve(recipe, data=evolve(recipe.data, decontaminate=None)), sources.registry)


def _texts(example: Example | RatedExample) -> tuple[str, ...]:
    """The texts of an example that must not contain an evaluation prompt: its user messages and the answer."""
    return (*user_texts(example.turns), example.answer)
