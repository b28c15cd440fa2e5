"""The checks of the pipelines and controls that a recipe names: they exist, and the recipe has the data they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tutelage.errors import TutelageError, nearest
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import MIRRORED
from tutelage.planning.declared import Declared, Group, rubric_of_scores
from tutelage.planning.sources import Sources
from tutelage.planning.trained_by import USABLE_AS
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


def member_problems(sources: Sources) -> Iterator[str]:
    """Yield each problem of the pipelines and controls of a recipe as ``KEY: problem``."""
    recipe, registry, known = sources.recipe, sources.registry, sources.declared
    yield from _setting_problems(recipe, registry)
    for name in recipe.pipelines:
        if problem := _objective_problem(name, recipe.pipelines[name].objective, "pipelines", registry):
            yield problem
        elif name not in known.pipelines:
            yield f"pipelines: {unknown(name, 'pipelines', registry)}"
        else:
            yield from _label_problems(name, recipe, known, registry)
    for name, control in recipe.controls.items():
        if problem := _objective_problem(name, None, "controls", registry):
            yield problem
        elif name not in known.controls:
            yield f"controls: {unknown(name, 'controls', registry)}"
        if name in recipe.pipelines:
            yield f"controls.{name}: a pipeline of this recipe has the same name"
        if control.mirrors not in recipe.pipelines:
            yield f"controls.{name}.mirrors: this recipe runs no pipeline {control.mirrors!r}" + nearest(
                control.mirrors, recipe.pipelines
            )
        elif name in known.controls and control.mirrors in known.pipelines:
            yield from _mirror_problems(name, control.mirrors, known)
    yield from _data_problems(recipe, known)


def _setting_problems(recipe: Recipe, registry: Registry) -> Iterator[str]:
    """The names and the seeds of the settings of plugins' objectives. Their values are checked if they are used."""
    sections = {"objectives": recipe.objectives}
    sections |= {f"pipelines.{name}.objectives": own.objectives for name, own in recipe.pipelines.items()}
    for key, section in sections.items():
        for name, values in section.items():
            if "/" not in name:
                yield f"{key}.{name}: not of a plugin; a built-in objective has a section of its own: {name}"
                continue
            try:
                registry.get("objectives", name)
            except TutelageError as error:
                yield f"{key}.{name}: {error}"
            if isinstance(values, Mapping) and values.get("seed"):
                yield f"{key}.{name}.seed: the seed is set by `seeds`; leave this key out"


def _objective_problem(name: str, objective: str | None, group: Group, registry: Registry) -> str:
    """Why a pipeline or control cannot be trained with its objective; empty if it can, or if it does not exist."""
    try:
        if (declared := registry.find(group, name)) is None:
            return ""
    except TutelageError:
        return ""
    key, made = f"{group}.{name}.objective", declared.trains_on
    wanted = objective or declared.training.objective
    try:
        trains_on = registry.get("objectives", wanted).examples
    except TutelageError as error:
        return f"{key}: {error}"
    if made is None or trains_on in (usable := USABLE_AS.get(made, ())):
        return ""
    others = [one for one, cls in registry.offered("objectives").items() if cls.examples in usable]
    return f"{key}: {wanted} trains on {trains_on}, and {name} makes {made}; use {', '.join(sorted(others))}"


def _label_problems(name: str, recipe: Recipe, known: Declared, registry: Registry) -> Iterator[str]:
    """What a pipeline lacks that labels answers by a threshold."""
    pipeline = known.pipelines[name]
    threshold = recipe.pipelines[name].pairs.get("threshold", recipe.pairs.threshold)
    if threshold is None and any(step.threshold is None for step in pipeline.labels):
        yield f"pairs.threshold: missing; {name} labels answers by it: set the lowest score of a desirable answer"
    for step in pipeline.labels:
        scored = rubric_of_scores(pipeline, step.scores, recipe.for_pipeline(name).judging)
        rubric, lowest = registry.offered("rubrics").get(scored), step.threshold if threshold is None else threshold
        if rubric and rubric.is_bounded and lowest is not None and not rubric.lowest < lowest <= rubric.highest:
            yield (
                f"pairs.threshold: {lowest:g}; {name} would give all answers one label, because the scores of the "
                f"rubric {scored!r} are from {rubric.lowest:g} to {rubric.highest:g}"
            )
    if pipeline.trains_on != "labelled":
        return
    if recipe.data.preferences is not None and name in recipe.data.preferences.join:
        yield (
            f"data.preferences.join: {name} trains on labelled answers, which pairs cannot join; leave it out, or "
            "leave out pairs.threshold: then the labelled answers are made of pairs"
        )
    if recipe.preferences == "all" and recipe.iterations > 1:
        yield (
            f"preferences: all; {name} trains on the labelled answers of its round: use last, or leave out "
            "pairs.threshold: then the labelled answers are made of the pairs of all rounds"
        )


def is_offered(name: str, group: Group | Literal["measures"], registry: Registry) -> bool:
    """Return whether core or a plugin offers an object of this name."""
    try:
        return registry.find(group, name) is not None
    except TutelageError:
        return False


def unknown(name: str, group: Group | Literal["measures"], registry: Registry) -> str:
    """Return why a pipeline, control or measure does not exist."""
    try:
        registry.get(group, name)
    except TutelageError as error:
        return str(error)
    raise AssertionError(f"{name!r} exists")


def _mirror_problems(name: str, mirrors: str, known: Declared) -> Iterator[str]:
    """A control needs of the pipeline that it mirrors: pairs if it reads pairs, and fresh prompts if it uses them."""
    control, mirrored = known.controls[name], known.pipelines[mirrors]
    if control.uses_prompts and not mirrored.uses_prompts and mirrors not in PIPELINES:
        yield (
            f"controls.{name}.mirrors: {mirrors} does not use fresh prompts, and the control does; mirror another "
            "pipeline, or use another control"
        )
    has = mirrored.trains_on
    for step in control.steps:
        for artifact, wanted in step.reads:
            if step is control.training:
                wanted = known.objectives[step.objective].examples
                is_usable = wanted in USABLE_AS.get(has or "records", ())
            else:
                is_usable = wanted in (None, has)
            if artifact in MIRRORED and not is_usable:
                yield f"controls.{name}.mirrors: {mirrors} trains on {has}, and the control needs its {wanted}"
                return


def _data_problems(recipe: Recipe, known: Declared) -> Iterator[str]:
    """The data that pipelines of plugins need. The keys that built-in ones need are checked without their plugin."""
    names: list[tuple[str, Mapping[str, Pipeline]]] = [
        *((name, known.pipelines) for name in recipe.pipelines if name not in PIPELINES and name in known.pipelines),
        *((name, known.controls) for name in recipe.controls if name not in CONTROLS and name in known.controls),
    ]
    own = recipe.data.preferences
    used = (*known.pipelines.items(), *known.controls.items())
    runs = {*recipe.pipelines, *recipe.controls}
    if own is not None and not own.join and not any("preferences" in one.given for name, one in used if name in runs):
        yield "data.preferences: not used; run a pipeline that reads it, or name pipelines in its key join"
    sources: dict[str, Any] = {"preferences": recipe.data.preferences, "ift": recipe.data.ift}
    for name, group in names:
        if group[name].uses_prompts and recipe.data.prompts is None:
            yield f"data.prompts: missing; {name} needs fresh prompts"
        for source in sorted(group[name].given):
            if sources[source] is None:
                yield f"data.{source}: missing; {name} reads it"
