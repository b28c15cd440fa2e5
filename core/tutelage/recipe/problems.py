"""Checks of a recipe whose keys and types are right: invalid values, and values that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.recipe.schema import SCHEMA, Recipe


def recipe_problems(recipe: Recipe) -> Iterator[str]:
    """Yield every problem of a recipe whose keys and types are right, each as ``key: problem``."""
    if recipe.schema != SCHEMA:
        yield f"schema: {recipe.schema} is not known; this tutelage reads schema {SCHEMA}"
    if recipe.iterations < 1:
        yield f"iterations: {recipe.iterations}; at least one preference round is needed"
    if recipe.generation.n < 2:
        yield f"generation.n: {recipe.generation.n}; a pair needs at least 2 candidates"
    if not recipe.seeds:
        yield "seeds: empty; name at least one"
    if len(set(recipe.seeds)) != len(recipe.seeds):
        yield "seeds: a seed occurs twice; name each seed once"
    if not recipe.pipelines:
        yield "pipelines: empty; name at least one"
    if recipe.chunk < 1:
        yield f"chunk: {recipe.chunk}; must be at least 1"
    if recipe.data.prompts.count is None:
        yield "data.prompts.count: missing; set the number of fresh prompts per iteration"
    if recipe.data.ift is None and recipe.data.eft is None:
        yield "data: neither ift nor eft is given; M1 needs at least one of them to train on"
    if recipe.budget is not None and recipe.budget < 0:
        yield f"budget: {recipe.budget:g}; must not be negative (US dollars)"
    yield from _data_problems(recipe)
    yield from _objective_problems(recipe)


def _objective_problems(recipe: Recipe) -> Iterator[str]:
    for key, objective in (("sft", recipe.sft), ("dpo", recipe.dpo)):
        if objective.seed:
            yield f"{key}.seed: the seed is set by `seeds`; leave this key out"
        if objective.batch_size < 1 or objective.epochs <= 0 or objective.learning_rate <= 0:
            yield f"{key}: batch_size, epochs and learning_rate must be positive"
    for key, judging in (
        ("judging", recipe.judging),
        *((f"pipelines.{n}.judging", p.judging) for n, p in recipe.pipelines.items()),
    ):
        if judging.samples < 1:
            yield f"{key}.samples: {judging.samples}; must be at least 1"


def _data_problems(recipe: Recipe) -> Iterator[str]:
    if (self_instruct := recipe.data.prompts.self_instruct) is not None:
        key = "data.prompts.self_instruct"
        if min(self_instruct.seeds, self_instruct.shots, self_instruct.max_requests) < 1:
            yield f"{key}: seeds, shots and max_requests must be at least 1"
        if not 0 < self_instruct.similarity <= 1:
            yield f"{key}.similarity: {self_instruct.similarity:g}; must be above 0 and at most 1"
        if not 0 <= self_instruct.min_characters < self_instruct.max_characters:
            yield f"{key}: min_characters must be less than max_characters, and not negative"
    if (decontaminate := recipe.data.decontaminate) is not None:
        if decontaminate.n < 1:
            yield f"data.decontaminate.n: {decontaminate.n}; must be at least 1"
        if not 0 < decontaminate.share <= 1:
            yield f"data.decontaminate.share: {decontaminate.share:g}; must be above 0 and at most 1"
