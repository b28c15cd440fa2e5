"""Checks of a recipe whose keys and types are right: invalid values, and values that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from attrs import fields_dict

from tutelage.errors import nearest
from tutelage.files.path_names import is_path_name
from tutelage.recipe.data_section import SelfInstruct
from tutelage.recipe.schema import OWN_PREFERENCES, SCHEMA, Evaluation, Generation, Judging, Recipe


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
    if recipe.budget is not None and recipe.budget < 0:
        yield f"budget: {recipe.budget:g}; must not be negative (US dollars)"
    yield from _jury_problems(recipe)
    yield from _data_problems(recipe)
    yield from _first_model_problems(recipe)
    yield from _preference_problems(recipe)
    yield from _objective_problems(recipe)
    yield from _number_problems(recipe)
    for name in recipe.evaluation.measures if recipe.evaluation is not None else ():
        if not is_path_name(name):
            yield f"evaluation.measures: {name!r} is no name of a measure: use small letters, digits and hyphens"


def _is_built_in(name: str) -> bool:
    """Whether a pipeline or control is built in. What one of a plugin needs is checked when its plugin is known."""
    return "/" not in name


def _jury_problems(recipe: Recipe) -> Iterator[str]:
    """Yield the problems of a jury: names that cannot be parts of paths, and a judge beside it."""
    for name in recipe.models.judges:
        if not is_path_name(name):
            yield f"models.judges: {name!r} is no name of a judge: use small letters, digits and hyphens"
    if recipe.models.judges and recipe.models.judge is not None:
        yield "models.judges: models.judge is bound as well; the jury judges in its place, so leave one of them out"
    for key, judging, own in _sections(recipe, ("judging",)):
        if own and not (judging.dispute_spread >= 0 and math.isfinite(judging.dispute_spread)):
            yield f"{key}.dispute_spread: {judging.dispute_spread:g}; must be a number of at least 0"
        if own and not 0 < judging.dispute_share <= 1:
            yield f"{key}.dispute_share: {judging.dispute_share:g}; must be above 0 and at most 1"


def _objective_problems(recipe: Recipe) -> Iterator[str]:
    for key, objective, own in _sections(recipe, ("sft", "dpo")):
        if objective.seed and "seed" in own:
            yield f"{key}.seed: the seed is set by `seeds`; leave this key out"
        sizes = {"batch_size", "epochs", "learning_rate"}
        if not min(getattr(objective, size) for size in sizes) > 0 and sizes & set(own):
            yield f"{key}: batch_size, epochs and learning_rate must be positive"


def _number_problems(recipe: Recipe) -> Iterator[str]:
    """Yield the numbers outside their range: of sampling, of rows, of answers."""
    sampled: dict[str, Generation | Judging | SelfInstruct | Evaluation] = {"generation": recipe.generation}
    sampled |= {key: judging for key, judging, own in _sections(recipe, ("judging",)) if own}
    if recipe.data.self_instruct is not None:
        sampled["data.prompts.self_instruct"] = recipe.data.self_instruct
    if recipe.evaluation is not None:
        sampled["evaluation"] = recipe.evaluation
    for key, section in sampled.items():
        if not (section.temperature >= 0 and math.isfinite(section.temperature)):
            yield f"{key}.temperature: {section.temperature:g}; must be a number of at least 0"
        if not 0 < section.top_p <= 1:
            yield f"{key}.top_p: {section.top_p:g}; must be above 0 and at most 1"
        if section.top_k is not None and section.top_k < 1:
            yield f"{key}.top_k: {section.top_k}; must be at least 1, or left out for all tokens"
        if not 0 <= section.min_p <= 1:
            yield f"{key}.min_p: {section.min_p:g}; must be from 0 to 1"
        if section.max_new_tokens < 1:
            yield f"{key}.max_new_tokens: {section.max_new_tokens}; must be at least 1"
        if isinstance(section, Judging) and section.samples < 1:
            yield f"{key}.samples: {section.samples}; must be at least 1"
        if isinstance(section, Judging) and section.score == "expected" and section.samples > 1:
            yield (
                f"{key}.samples: {section.samples}; with score: expected all samples of an answer would be equal: set "
                "it to 1"
            )
    if (evaluation := recipe.evaluation) is not None:
        for key, least in (("sampled", 0), ("agreement_prompts", 0), ("judgement_tokens", 1)):
            if getattr(evaluation, key) < least:
                yield f"evaluation.{key}: {getattr(evaluation, key)}; must be at least {least}"
    data = recipe.data
    sources = {"ift": data.ift, "eft": data.eft, "prompts": data.prompts, "preferences": data.preferences}
    counted = {f"data.{key}": source for key, source in sources.items()}
    counted["evaluation.prompts"] = evaluation.prompts if evaluation is not None else None
    for key, source in counted.items():
        if source is not None and source.count is not None and source.count < 1:
            yield f"{key}.count: {source.count}; must be at least 1, or left out to use all rows"


def _sections(recipe: Recipe, names: Iterable[str]) -> Iterator[tuple[str, Any, Collection[str]]]:
    """Yield (key, values, keys set there) of these top-level sections, and of their overrides with these applied."""
    for name in names:
        general = getattr(recipe, name)
        yield name, general, fields_dict(type(general)).keys()
        for group, members, settings_of in (
            ("pipelines", recipe.pipelines, recipe.for_pipeline),
            ("controls", recipe.controls, recipe.for_control),
        ):
            for member, overrides in members.items():
                if own := getattr(overrides, name, None):
                    yield f"{group}.{member}.{name}", getattr(settings_of(member), name), own.keys()


def _first_model_problems(recipe: Recipe) -> Iterator[str]:
    """Yield the keys that need M1, if the recipe has no examples to train it on."""
    if recipe.data.has_seed_examples:
        return
    if any(_is_built_in(name) and name != OWN_PREFERENCES for name in recipe.pipelines) or not recipe.pipelines:
        yield "data: neither ift nor eft is given; M1 needs at least one of them to train on"
    for key, value in (("start", recipe.start), ("reference", recipe.reference)):
        if value == "M1":
            yield f"{key}: M1 is not trained, because data has neither ift nor eft; use previous"


def _preference_problems(recipe: Recipe) -> Iterator[str]:
    own = recipe.data.preferences
    sampling = [name for name in recipe.pipelines if name != OWN_PREFERENCES]
    if own is None and OWN_PREFERENCES in recipe.pipelines:
        yield f"data.preferences: missing; the pipeline {OWN_PREFERENCES} trains on it"
    knows_all = all(map(_is_built_in, (*recipe.pipelines, *recipe.controls)))
    if own is not None and knows_all and OWN_PREFERENCES not in recipe.pipelines and not own.join:
        yield f"data.preferences: not used; run the pipeline {OWN_PREFERENCES}, or name pipelines in its key join"
    for name in own.join if own else ():
        if name == OWN_PREFERENCES:
            yield f"data.preferences.join: {name} trains on these pairs in any case; leave it out"
        elif name not in sampling:
            yield f"data.preferences.join: this recipe runs no pipeline {name!r}{nearest(name, sampling)}"
    if recipe.pipelines and not sampling and recipe.iterations > 1:
        yield f"iterations: {recipe.iterations}; {OWN_PREFERENCES} trains once: use 1, or add another pipeline"
    if OWN_PREFERENCES in recipe.pipelines:
        settings = recipe.for_pipeline(OWN_PREFERENCES)
        for key, value, general in (
            ("judging", settings.judging, recipe.judging),
            ("pairs", settings.pairs, recipe.pairs),
        ):
            if value != general:
                yield f"pipelines.{OWN_PREFERENCES}.{key}: has no effect, because its pairs are given; leave it out"
    control = recipe.controls.get("random-pairs")
    if control is not None and control.mirrors == OWN_PREFERENCES:
        yield (
            f"controls.random-pairs.mirrors: {OWN_PREFERENCES} samples no candidates to draw pairs from; "
            "mirror another pipeline, or use the control sft-on-chosen"
        )


def _data_problems(recipe: Recipe) -> Iterator[str]:
    if (prompts := recipe.data.prompts) is not None and prompts.count is None:
        yield "data.prompts.count: missing; set the number of fresh prompts per iteration"
    for name in recipe.pipelines:
        if prompts is None and _is_built_in(name) and name != OWN_PREFERENCES:
            yield f"data.prompts: missing; the pipeline {name} needs fresh prompts"
            break
    if (self_instruct := recipe.data.self_instruct) is not None:
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
