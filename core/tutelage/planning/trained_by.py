"""The objective that each pipeline is trained with: the declaration of the pipeline adapted to the recipe's choice.

The objectives of plugins that a recipe uses are stored with the run, so that it can be read where the plugins are not
installed any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import evolve, field

from tutelage.files.jsonl import converter
from tutelage.files.settings import structure
from tutelage.files.strict_converter import init_fields
from tutelage.objectives import ExampleKind, Objective
from tutelage.pipeline import Pipeline
from tutelage.pipeline_steps import Kind, LabelStep, PairStep

USABLE_AS: Mapping[Kind, tuple[ExampleKind, ...]] = {
    "preferences": ("preferences", "labelled", "examples"),
    "labelled": ("labelled",),
    "examples": ("examples",),
}
"""The kinds of artifacts to train on, each with what it can be made into for an objective."""
TRAINED_ON = "trained-on"
"""Name of the artifact that is made for an objective in place of the pairs of the declaration, or of them."""


def adapted(pipeline: Pipeline, objective: str, trains_on: ExampleKind, threshold: float | None) -> Pipeline:
    """Return a declaration that trains with another objective.

    If the objective trains on labelled answers and there is a threshold, the answers are labelled by their scores in
    place of the step that makes pairs of them. Settings of the declaration for its own objective are dropped.
    """
    training = pipeline.training
    steps = list(pipeline.steps[:-1])
    maker = next((step for step in steps if step.name == training.examples), None)
    if trains_on == "labelled" and threshold is not None and isinstance(maker, PairStep):
        is_read = any(maker.name in dict(step.reads) for step in steps)
        if maker.scores and not maker.fixed and not is_read:
            labels = LabelStep(TRAINED_ON, maker.answers, maker.scores, prompts=maker.prompts)
            steps = [labels if step is maker else step for step in steps]
            training = evolve(training, examples=labels.name)
    if objective != training.objective:
        training = evolve(training, objective=objective, settings={})
    return evolve(pipeline, steps=(*steps, training))


def to_plain(objective: type[Objective]) -> dict[str, Any]:
    """Return what readers of a run need of an objective, as plain values for JSON."""
    defaults = converter().unstructure(objective())
    return {
        "class": objective.__name__,
        "help": (objective.__doc__ or "").strip().partition("\n")[0],
        "examples": objective.examples,
        "has_reference": objective.has_reference,
        "settings": defaults,
    }


def from_plain(values: Mapping[str, Any]) -> type[Objective]:
    """Return a class with the settings of a stored objective, which cannot be trained with.

    Raises KeyError, AttributeError, TypeError or InputError if the values are not those of ``to_plain``.
    """
    general = init_fields(Objective)
    own = {}
    for key, value in values["settings"].items():
        kind: Any = general[key].type if key in general else Any
        own[key] = field(default=structure(kind, value, key) if key in general else value, type=kind)
    body = {"__doc__": values["help"], "examples": values["examples"], "has_reference": values["has_reference"]}
    return attrs.make_class(values["class"], own, bases=(Objective,), class_body=body, frozen=True, slots=True)
