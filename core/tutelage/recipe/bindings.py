"""What a recipe takes of plugins by name: models for the roles, wrappers of hooks, and measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen
class Binding:
    """The model that fills a role."""

    plugin: str
    """Name of the plugin that runs the model."""
    model: str = ""
    """Model to run: a model that a plugin offers (`tiny/student`), a weights folder, a hub name, or an API model name.
    If empty, the plugin's default model."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the plugin; `tutelage plugins show NAME` lists them."""


@frozen
class Generator:
    """Another plugin that samples and judges for the student. It runs the student's own weights."""

    plugin: str
    """Name of the plugin. It must be able to run a folder of weights in Hugging Face's format."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the plugin; `tutelage plugins show NAME` lists them."""


WRAPPED_ROLES = ("student", "generator", "teacher", "judge", "evaluator")
"""The roles whose hooks a plugin can wrap. ``student`` includes the generator, and ``judge`` every judge of a jury."""


@frozen
class Wrapping:
    """A plugin that wraps hooks of the plugins of other roles."""

    roles: tuple[str, ...] | None = None
    """Roles whose hooks the plugin wraps: `student`, which includes its generator, `generator`, `teacher`, `judge`,
    which includes every judge of a jury, `judges.NAME`, and `evaluator`. If left out, those that the plugin itself
    names, or all roles. `[]` turns the plugin off."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the plugin; `tutelage plugins show NAME` lists them."""


@frozen
class Student(Binding):
    """The model to align."""

    generator: Generator | None = None
    """Another plugin that samples and judges with the student's models, while `plugin` trains them. If left out,
    `plugin` does both."""


def as_student(bound: Binding) -> Student:
    """Return the binding of the student. A plain ``Binding`` has no generator."""
    return bound if isinstance(bound, Student) else Student(bound.plugin, bound.model, bound.settings)


@frozen
class Roles:
    """The model of each role."""

    student: Student = field(converter=as_student)
    """The model to align."""
    teacher: Binding | None = None
    """The model that writes demonstrations. It also judges if no judge is bound."""
    judge: Binding | None = None
    """The model that judges in teacher-reward. If left out, the teacher judges."""
    judges: Mapping[str, Binding] = field(factory=dict)
    """A jury in place of one judge: several models by name, which all judge. `judging.jury` combines their scores."""
    evaluator: Binding | None = None
    """The model that scores every model's answers (the gold scores) and compares them. Required if `evaluation` is
    set."""


@frozen
class MeasureUse:
    """A measure of a plugin, taken of every model."""

    measure: str
    """Name of the measure: `PLUGIN/NAME`."""
    settings: Mapping[str, Any] = field(factory=dict)
    """Settings of the measure, if it has any."""
