"""The functions of measures: the form in which a function is called, and the checks of a declaration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Literal, get_args

from attrs import frozen

from tutelage.errors import PluginError, nearest
from tutelage.measure import Better, Measure, Over
from tutelage.plugins.functions import NEVER_AWAITED, is_async

Form = Literal["answer", "items", "model"]
"""What a function is called for: each answer, all prompts at once, or a checkpoint."""
_OF_ANSWER = ("prompt", "answer", "messages", "metadata")
_FORMS: dict[str, Form] = {**dict.fromkeys(_OF_ANSWER, "answer"), "items": "items", "model": "model"}
_ANY_FORM: dict[Form, tuple[str, ...]] = {
    "answer": (*_OF_ANSWER, "settings"),
    "items": ("items", "settings"),
    "model": ("model", "context", "settings"),
}
"""The arguments of each form."""


@frozen
class MeasureFunction:
    """How the function of a measure is called."""

    form: Form
    arguments: tuple[str, ...]
    """The arguments that it names."""


def function_of(measure: Measure) -> MeasureFunction:
    """Return how the function of a measure is called. Raises ``PluginError`` if it cannot be called."""
    if not callable(measure.function):
        raise PluginError(f"function must be callable, not {measure.function!r}")
    if is_async(measure.function):
        raise PluginError(f"function: {NEVER_AWAITED}")
    try:
        parameters = inspect.signature(measure.function).parameters.values()
    except ValueError as error:  # of a function that is written in C
        raise PluginError(f"function: its arguments are not known ({error}); wrap it in a Python function") from error
    known = tuple(dict.fromkeys(name for names in _ANY_FORM.values() for name in names))
    required = [one.name for one in parameters if one.default is one.empty and one.kind not in _VARIABLE]
    for name in required:
        if name not in known:
            raise PluginError(f"function: there is no argument {name!r}{nearest(name, known)}")
    named = tuple(one.name for one in parameters if one.name in known)
    forms = {_FORMS[name] for name in named if name in _FORMS}
    if len(forms) != 1:
        raise PluginError(
            f"function names {', '.join(named) or 'no argument'}; it must name some of {', '.join(_OF_ANSWER)}, or "
            "items, or model"
        )
    form = forms.pop()
    if wrong := [name for name in named if name not in _ANY_FORM[form]]:
        raise PluginError(f"function: {', '.join(wrong)} is never passed together with {', '.join(named[:1])}")
    return MeasureFunction(form, named)


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def declaration_problems(measure: Measure) -> Iterator[str]:
    """Yield each problem of a declared measure, without those of its settings class."""
    try:
        form = function_of(measure).form
    except PluginError as error:
        yield str(error)
        return
    if measure.over not in get_args(Over):
        yield f"over must be one of {', '.join(get_args(Over))}, not {measure.over!r}"
    elif (form == "model") != (measure.over == "checkpoint"):
        yield f"over is {measure.over!r}, and its function names {form}; a checkpoint, and nothing else, has a model"
    elif form == "answer" and measure.over not in ("answers", "sampled"):
        yield f"over is {measure.over!r}; a function of one answer measures answers or sampled; use items"
    if measure.better not in get_args(Better):
        yield f"better must be one of {', '.join(get_args(Better))}, not {measure.better!r}"
    if measure.lowest is not None and measure.highest is not None and not measure.lowest < measure.highest:
        yield f"lowest is {measure.lowest:g}, and highest {measure.highest:g}; lowest must be less"
    for name in ("help", "unit"):
        if not isinstance(getattr(measure, name), str):
            yield f"{name} must be a text, not {getattr(measure, name)!r}"
    for name in ("check", "files"):
        if getattr(measure, name) is not None and not callable(getattr(measure, name)):
            yield f"{name} must be callable, not {getattr(measure, name)!r}"
