"""The checks of a declared pipeline or control, before its plugin is registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from attrs import fields_dict

from tutelage.errors import InputError, nearest
from tutelage.files.overrides import overrides_of
from tutelage.files.path_names import is_path_name
from tutelage.files.settings import structure
from tutelage.objectives import OBJECTIVES
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import (
    MIRRORED,
    PROMPTS,
    RECORD_TYPES,
    TRANSFORM_SETTINGS,
    By,
    Combination,
    CombineStep,
    DemonstrateStep,
    JoinStep,
    PipelineStep,
    TrainStep,
    TransformStep,
    keyword_arguments,
)
from tutelage.plugins.functions import NEVER_AWAITED, is_async

_TEACHERS = ("teacher", "judge", "evaluator")
_TAKEN = {PROMPTS, "checkpoint", "metrics", "preferences-joined", "preferences-of-all-rounds", "samples", "trained-on"}
"""Names that an artifact cannot have, because files and folders beside it have them."""


def pipeline_problems(pipeline: Pipeline, is_control: bool = False) -> Iterator[str]:
    """Yield each problem of a declaration: its steps, the artifacts that they name, and the types of the artifacts."""
    if not isinstance(pipeline.steps, tuple) or not all(isinstance(s, get_args(PipelineStep)) for s in pipeline.steps):
        yield "steps must be a tuple of steps, such as (SampleStep(...), ..., TrainStep(...))"
        return
    trainings = [step for step in pipeline.steps if isinstance(step, TrainStep)]
    if len(trainings) != 1 or pipeline.steps[-1] is not trainings[0]:
        yield f"the last step, and no other, must be a TrainStep; it has {len(trainings)}"
    names = [step.name for step in pipeline.steps if not isinstance(step, TrainStep)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two steps make {name!r}; give each artifact its own name"
    makers: dict[str, PipelineStep] = {step.name: step for step in pipeline.steps}
    kinds: dict[str, str | None] = {PROMPTS: "prompts"}
    if is_control:
        kinds |= dict.fromkeys(MIRRORED)  # known when a recipe names the mirrored pipeline
    for step in pipeline.steps:
        yield from _own_problems(step)
        for name, wanted in step.reads:
            if name not in kinds:
                yield f"{_label(step)} reads {name!r}, {_not_made(name, step, makers, kinds)}"
            elif wanted and kinds[name] and kinds[name] != wanted:
                yield f"{_label(step)} reads {name!r} as {wanted}, but {name!r} has {kinds[name]}"
        kinds[step.name] = step.kind


def _own_problems(step: PipelineStep) -> Iterator[str]:
    """The problems of one step that do not depend on the others."""
    if not isinstance(step, TrainStep) and (step.name in _TAKEN or not is_path_name(step.name)):
        yield (
            f"{_label(step)}: the artifact needs another name: small letters, digits and hyphens, and none of "
            f"{', '.join(sorted(_TAKEN))}"
        )
    known = _TEACHERS if isinstance(step, DemonstrateStep) else get_args(By)
    if (by := getattr(step, "by", known[0])) not in known:
        yield f"{_label(step)}: by is {by!r}{nearest(str(by), known)}"
    if isinstance(step, JoinStep) and not (isinstance(step.parts, tuple) and step.parts):
        yield f"{_label(step)}: parts must be a tuple with at least one name"
    if isinstance(step, CombineStep):
        if not (isinstance(step.judgements, tuple) and step.judgements):
            yield f"{_label(step)}: judgements must be a tuple with at least one name"
        if step.how is not None and step.how not in get_args(Combination):
            yield f"{_label(step)}: how is {step.how!r}{nearest(str(step.how), get_args(Combination))}"
    if isinstance(step, TransformStep):
        yield from _transform_problems(step)
    if isinstance(step, TrainStep):
        yield from _training_problems(step)


def _transform_problems(step: TransformStep) -> Iterator[str]:
    if step.makes not in RECORD_TYPES:
        yield f"{_label(step)}: makes is {step.makes!r}{nearest(step.makes, RECORD_TYPES)}"
    if not isinstance(step.reads_from, tuple) or not step.reads_from:
        yield f"{_label(step)}: reads must be a tuple with at least one name"
    function: Any = step.function
    for argument in sorted(keyword_arguments(function, required=True) - TRANSFORM_SETTINGS):
        yield f"{_label(step)}: the argument {argument!r} is never passed{nearest(argument, TRANSFORM_SETTINGS)}"
    name = getattr(function, "__qualname__", "<")
    if is_async(function):
        yield f"{_label(step)}: {NEVER_AWAITED}"
    if not callable(function) or "<" in name:
        yield f"{_label(step)}: {function!r} must be a function at the top of a module, because its name is recorded"


def _training_problems(step: TrainStep) -> Iterator[str]:
    if "/" in step.objective:
        return  # of a plugin, which is known when a recipe names the pipeline
    if step.objective not in OBJECTIVES:
        yield f"TrainStep: no objective {step.objective!r}{nearest(step.objective, OBJECTIVES)}"
        return
    try:
        structure(overrides_of(OBJECTIVES[step.objective]), dict(step.settings), "TrainStep: settings")
    except InputError as error:
        yield from str(error).splitlines()
    if "seed" in step.settings and "seed" in fields_dict(OBJECTIVES[step.objective]):
        yield "TrainStep: settings: seed: the seed is set by `seeds` of the recipe; leave it out"


def _not_made(
    name: str, reader: PipelineStep, makers: Mapping[str, PipelineStep], known: Mapping[str, str | None]
) -> str:
    """Why an artifact does not exist when a step reads it: no step makes it, a later one does, or there is a cycle."""
    if name not in makers:
        return f"which no step makes{nearest(name, {*makers, *known} - {'checkpoint'})}"
    if cycle := _path(name, reader.name, makers):
        return f"which depends on it: {' -> '.join([reader.name, *cycle])}; remove one of them"
    return f"which a later step makes; put {_label(makers[name])} before it"


def _path(start: str, target: str, makers: Mapping[str, PipelineStep], seen: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The artifacts from ``start`` to ``target``, each made of the next one; empty if there is no such path."""
    if start == target:
        return (*seen, start)
    if start in seen or start not in makers:
        return ()
    paths = (_path(name, target, makers, (*seen, start)) for name, _ in makers[start].reads)
    return next((path for path in paths if path), ())


def _label(step: PipelineStep) -> str:
    return f"{type(step).__name__} {step.name!r}" if not isinstance(step, TrainStep) else "TrainStep"
