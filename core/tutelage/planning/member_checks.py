"""The checks of the pipelines and controls that a recipe names: they exist, and the recipe has the data they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tutelage.errors import TutelageError, nearest
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import EXAMPLE_KINDS, MIRRORED
from tutelage.planning.declared import Declared, Group
from tutelage.planning.sources import Sources
from tutelage.plugins.built_in_pipelines import CONTROLS, PIPELINES
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


def member_problems(sources: Sources) -> Iterator[str]:
    """Yield each problem of the pipelines and controls of a recipe as ``KEY: problem``."""
    recipe, registry, known = sources.recipe, sources.registry, sources.declared
    for name in recipe.pipelines:
        if name not in known.pipelines:
            yield f"pipelines: {unknown(name, 'pipelines', registry)}"
    for name, control in recipe.controls.items():
        if name not in known.controls:
            yield f"controls: {unknown(name, 'controls', registry)}"
        if name in recipe.pipelines:
            yield f"controls.{name}: a pipeline of this recipe has the same name"
        if control.mirrors not in recipe.pipelines:
            yield f"controls.{name}.mirrors: this recipe runs no pipeline {control.mirrors!r}" + nearest(
                control.mirrors, recipe.pipelines
            )
        elif name in known.controls and control.mirrors in known.pipelines:
            yield from _mirror_problems(name, known.controls[name], control.mirrors, known.pipelines[control.mirrors])
    yield from _data_problems(recipe, known)


def is_offered(name: str, group: Group | Literal["measures"], registry: Registry) -> bool:
    """Return whether core or a plugin offers an object of this name."""
    try:
        return registry.find(group, name) is not None
    except TutelageError:
        return False


def unknown(name: str, group: Group | Literal["measures"], registry: Registry) -> str:
    """Return why a pipeline, control or measure does not exist."""
    try:
        registry.find(group, name)
    except TutelageError as error:
        return str(error)
    kind, (plugin, slash, _) = group.removesuffix("s"), name.partition("/")
    if slash and registry.name_of(plugin) not in registry.names():
        return f"no {kind} {name!r}: no plugin {plugin!r} is installed{nearest(plugin, registry.names())}"
    return f"no {kind} {name!r}{nearest(name, registry.offered(group))}"


def _mirror_problems(name: str, control: Pipeline, mirrors: str, mirrored: Pipeline) -> Iterator[str]:
    """A control needs of the pipeline that it mirrors: pairs if it reads pairs, and fresh prompts if it uses them."""
    if control.uses_prompts and not mirrored.uses_prompts and mirrors not in PIPELINES:
        yield (
            f"controls.{name}.mirrors: {mirrors} does not use fresh prompts, and the control does; mirror another "
            "pipeline, or use another control"
        )
    has = EXAMPLE_KINDS[mirrored.training.objective]
    for step in control.steps:
        for artifact, wanted in step.reads:
            if artifact in MIRRORED and wanted and wanted != has:
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
