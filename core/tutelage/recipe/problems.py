"""What can be wrong with a recipe whose keys and types are right: values that contradict each other or make no run."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.recipe.schema import SCHEMA, Recipe


def recipe_problems(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with a well-formed recipe."""
    if recipe.schema != SCHEMA:
        yield f"schema: {recipe.schema} is not known; this tutelage reads schema {SCHEMA}"
    if recipe.iterations < 1:
        yield f"iterations: {recipe.iterations}; at least one preference round is needed"
    if recipe.generation.n < 2:
        yield f"generation.n: {recipe.generation.n}; a pair needs at least 2 candidates"
    if not recipe.seeds:
        yield "seeds: empty; name at least one"
    if len(set(recipe.seeds)) != len(recipe.seeds):
        yield "seeds: the same seed twice"
    if not recipe.pipelines:
        yield "pipelines: empty; name at least one"
    if recipe.chunk < 1:
        yield f"chunk: {recipe.chunk}; at least 1"
    if recipe.data.prompts.count is None:
        yield "data.prompts.count: missing; say how many fresh prompts an iteration takes"
    if recipe.data.ift is None and recipe.data.eft is None:
        yield "data: neither ift nor eft; M1 has nothing to learn from"
    if recipe.budget is not None and recipe.budget < 0:
        yield f"budget: {recipe.budget:g}; US dollars, not negative"
    yield from _data_problems(recipe)
    yield from _objective_problems(recipe)


def _objective_problems(recipe: Recipe) -> Iterator[str]:
    for key, objective in (("sft", recipe.sft), ("dpo", recipe.dpo)):
        if objective.seed:
            yield f"{key}.seed: is set by `seeds`; leave it out"
        if objective.batch_size < 1 or objective.epochs <= 0 or objective.learning_rate <= 0:
            yield f"{key}: batch_size, epochs and learning_rate must be positive"
    for key, judging in (
        ("judging", recipe.judging),
        *((f"pipelines.{n}.judging", p.judging) for n, p in recipe.pipelines.items()),
    ):
        if judging.samples < 1:
            yield f"{key}.samples: {judging.samples}; at least 1"


def _data_problems(recipe: Recipe) -> Iterator[str]:
    if (writing := recipe.data.prompts.self_instruct) is not None:
        key = "data.prompts.self_instruct"
        if min(writing.seeds, writing.shots, writing.max_requests) < 1:
            yield f"{key}: seeds, shots and max_requests must be at least 1"
        if not 0 < writing.similarity <= 1:
            yield f"{key}.similarity: {writing.similarity:g}; more than 0, and 1 at most"
        if not 0 <= writing.min_characters < writing.max_characters:
            yield f"{key}: min_characters must be less than max_characters, and not negative"
    if (clean := recipe.data.decontaminate) is not None:
        if clean.n < 1:
            yield f"data.decontaminate.n: {clean.n}; at least 1"
        if not 0 < clean.share <= 1:
            yield f"data.decontaminate.share: {clean.share:g}; more than 0, and 1 at most"
