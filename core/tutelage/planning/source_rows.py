"""The rows of the artifacts that are made from the recipe's sources alone, without a model.

The steps write these rows. Their content is known before a run starts, so it is what the artifacts are compared by: a
changed source that gives the same rows changes nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from tutelage.data.contamination import EvaluationPrompts
from tutelage.data.decontamination import HOLDS, Dropped, evaluation_prompts, fresh_rows, slice_of
from tutelage.data.sets import Sets, load_prompts
from tutelage.files.trl_format import preference_row
from tutelage.planning.sources import own_preferences, seed_examples, sets_of
from tutelage.planning.steps import BuildExamples, SelectPreferences, SelectPrompts, Step
from tutelage.plugin.registry import Registry
from tutelage.recipe.schema import Recipe
from tutelage.records import Prompt

FROM_SOURCES = (BuildExamples, SelectPrompts, SelectPreferences)
"""The types of the steps whose artifacts are made from sources alone."""


@frozen
class SourceRows:
    """The rows of one artifact."""

    rows: Sequence[Any]
    counts: Mapping[str, int]
    """Number of rows by kind, and number of dropped texts."""
    dropped: Sequence[Dropped] | None = None
    """The texts that contain an evaluation prompt; None if the artifact is not decontaminated."""


@frozen
class SourceReader:
    """Reads the sources of a recipe. What several steps share is read once."""

    recipe: Recipe
    registry: Registry
    _known: dict[int, EvaluationPrompts | None] = field(factory=dict, init=False)
    _fresh: dict[int, list[tuple[Prompt, Dropped | None]]] = field(factory=dict, init=False)

    def rows_of(self, step: Step) -> SourceRows:
        """Return the rows of a step that is one of ``FROM_SOURCES``.

        Raises InputError if a source is missing, has too few rows or a row that cannot be used.
        """
        if isinstance(step, BuildExamples):
            return self._examples(step.seed)
        if isinstance(step, SelectPreferences):
            return self._preferences(step.seed)
        if isinstance(step, SelectPrompts):
            return self._prompts(step)
        raise TypeError(f"{step.output} is not made from sources alone")

    @property
    def _sets(self) -> Sets:
        return sets_of(self.registry)

    def _prompts(self, step: SelectPrompts) -> SourceRows:
        """A slice of a source's prompts, in the order that the seed determines."""
        if not step.decontaminate:
            most = None if step.take is None else step.skip + step.take
            prompts = load_prompts(self._sets, step.source, most, step.seed)[step.skip :]
            return SourceRows(prompts, {"prompts": len(prompts)})
        kept, dropped = slice_of(self._fresh_prompts(step), step.skip, step.take or step.count)
        return _without_held({"prompts": len(kept)}, kept, dropped)

    def _fresh_prompts(self, step: SelectPrompts) -> list[tuple[Prompt, Dropped | None]]:
        """The prompts of all rounds of one seed, with those that are dropped."""
        if step.seed not in self._fresh:
            wanted = (step.take or step.count) * self.recipe.iterations
            self._fresh[step.seed] = fresh_rows(
                lambda count: load_prompts(self._sets, step.source, count, step.seed),
                wanted,
                self._evaluation_prompts(step.seed),
            )
        return self._fresh[step.seed]

    def _evaluation_prompts(self, seed: int) -> EvaluationPrompts | None:
        if seed not in self._known:
            self._known[seed] = evaluation_prompts(self.recipe, self._sets, seed)
        return self._known[seed]

    def _examples(self, seed: int) -> SourceRows:
        """The examples of M1, shuffled."""
        counts: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []
        dropped: list[Dropped] = []
        for kind, row, held in seed_examples(self.recipe, self.registry, seed):
            if held:
                dropped.append(held)
            else:
                rows.append(row)
                counts[kind] += 1
        random.Random(seed).shuffle(rows)
        return _without_held(counts, rows, dropped)

    def _preferences(self, seed: int) -> SourceRows:
        """The user's preference pairs of one seed."""
        rows: list[dict[str, Any]] = []
        dropped: list[Dropped] = []
        for preference, held in own_preferences(self.recipe, self.registry, seed):
            if held:
                dropped.append(held)
            else:
                rows.append(preference_row(preference))
        return _without_held({"pairs": len(rows)}, rows, dropped)


def _without_held(counts: Mapping[str, int], rows: Sequence[Any], dropped: Sequence[Dropped]) -> SourceRows:
    held = {HOLDS: len(dropped)} if dropped else {}
    return SourceRows(rows, {**counts, **held}, dropped)
