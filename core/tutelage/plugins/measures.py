"""Guarded calls of the measures of plugins: an error names the measure, its plugin, the model and the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, frozen

from tutelage.context import Context
from tutelage.errors import PluginError, StageError, TutelageError
from tutelage.files.disk_errors import error_text
from tutelage.files.settings import optional_settings
from tutelage.measure import Measure, MeasuredPrompt, Measurement
from tutelage.plugins.guarded_lists import guarded_list
from tutelage.plugins.measure_functions import MeasureFunction, function_of
from tutelage.plugins.registry import Registry
from tutelage.records import Candidate, Model

T = TypeVar("T")


@frozen
class BoundMeasure:
    """A measure of a plugin with its settings."""

    measure: Measure
    function: MeasureFunction
    settings: Any
    label: str
    """The measure and its plugin, for messages."""

    def problems(self) -> list[str]:
        """Return each problem that the measure's ``check`` finds, as ``KEY: problem and remedy``."""
        return self._listed(self.measure.check, "check", str)

    def files(self) -> list[Path]:
        """Return the files and folders that the measure reads."""
        return self._listed(self.measure.files, "files", Path)

    def of_prompts(
        self, model: str, prompts: Sequence[MeasuredPrompt], advance: Callable[[int], None] = lambda count: None
    ) -> list[Measurement]:
        """Return the value of each prompt, in their order. ``model`` is the id of the model, for messages.

        The function does not get prompts without an answer that has text. ``advance`` is called after each value with
        1. Raises ``StageError`` if the function raises an exception, and ``PluginError`` if it gives another number of
        values, or a value that is not valid.
        """
        given = [one for one in prompts if one.answers or self.measure.over == "training"]
        label = f"{self.label}, for {model}"
        reader, found = _Reader(given), dict[str, Measurement]()
        with _errors(lambda: f"{label}{reader.place(len(found))},"):
            for value in self._values(reader, label):
                if len(found) == len(given):
                    raise PluginError(f"{label}, gave more values than the {len(given)} prompts; it must give one each")
                id = given[len(found)].prompt.id
                found[id] = self._checked(value, id, f"{label}, for the prompt {id},")
                advance(1)
        if len(found) < len(given):
            first = given[len(found)].prompt.id
            raise PluginError(
                f"{label}, gave {len(found)} values for {len(given)} prompts; it must give one each, and None for a "
                f"prompt that cannot be measured; the first prompt without a value is {first}"
            )
        return [found.get(one.prompt.id) or _without_text(one) for one in prompts]

    def of_checkpoint(self, model: Model, context: Context) -> list[Measurement]:
        """Return the values of a model, by the items of the measure itself. Raises the errors of ``of_prompts``."""
        label = f"{self.label}, for {model.id}"
        found: dict[str, Measurement] = {}

        def place() -> str:
            return f"{label}, after {len(found)} values{f' (the last of {list(found)[-1]})' if found else ''},"

        with _errors(place):
            arguments = self._arguments({"model": model, "context": context})
            for value in _iterable(self.measure.function(**arguments), label):
                if not isinstance(value, Measurement) or not isinstance(value.prompt_id, str) or not value.prompt_id:
                    raise PluginError(f"{place()} gave {value!r}; it must give Measurements with a prompt_id")
                if value.prompt_id in found:
                    raise PluginError(f"{label}, gave two values of {value.prompt_id!r}")
                found[value.prompt_id] = self._checked(value, value.prompt_id, f"{label}, for {value.prompt_id!r},")
                context.advance(1)
        if not found:
            raise PluginError(f"{label}, gave no value")
        return list(found.values())

    def _arguments(self, known: Mapping[str, Any]) -> dict[str, Any]:
        known = {**known, "settings": self.settings}
        return {name: known[name] for name in self.function.arguments}

    def _values(self, reader: _Reader, label: str) -> Iterable[Any]:
        if self.function.form == "answer":
            return (self._of_answers(one, f"{label}, for the prompt {one.prompt.id},") for one in reader)
        return _iterable(self.measure.function(**self._arguments({"items": reader})), label)

    def _of_answers(self, item: MeasuredPrompt, label: str) -> Measurement:
        """The value of a prompt, by a function that is called for each of its answers: the mean over their units."""
        found = [self._checked(self._of_answer(item, answer), item.prompt.id, label) for answer in item.answers]
        measured = [one for one in found if one.value is not None]
        weight = math.fsum(one.weight for one in measured)
        missing = math.fsum(one.unmeasured + (one.weight if one.value is None else 0) for one in found)
        detail = "; ".join(dict.fromkeys(one.detail for one in found if one.detail))
        if not weight:
            return Measurement(None, missing + item.without_text, detail=detail)
        value = math.fsum(one.weight * (one.value or 0.0) for one in measured) / weight
        return Measurement(value, weight, missing + item.without_text, detail)

    def _of_answer(self, item: MeasuredPrompt, answer: Candidate) -> Any:
        prompt = item.prompt
        about = {"prompt": prompt.text, "answer": answer.text, "messages": prompt.turns, "metadata": prompt.metadata}
        return self.measure.function(**self._arguments(about))

    def _checked(self, value: object, id: str, label: str) -> Measurement:
        """The value of one prompt. Raises ``PluginError`` if it is not valid."""
        made = value if isinstance(value, Measurement) else Measurement(value)  # type: ignore[arg-type]
        if made.prompt_id not in ("", id):
            raise PluginError(f"{label} gave a value of {made.prompt_id!r}; values must be in the order of the prompts")
        if made.value is None:
            return evolve(made, prompt_id=id)
        if not isinstance(made.value, Real):
            raise PluginError(f"{label} gave {made.value!r}; a value is a number, None, or a Measurement")
        number = float(made.value)
        if not math.isfinite(number):
            raise PluginError(f"{label} gave {number}; a value is a finite number, or None if there is none")
        lowest, highest = self.measure.lowest, self.measure.highest
        if (lowest is not None and number < lowest) or (highest is not None and number > highest):
            low, high = ("no limit" if end is None else f"{end:g}" for end in (lowest, highest))
            raise PluginError(f"{label} gave {number:g}; the measure has values from {low} to {high}")
        return evolve(made, value=number, prompt_id=id)

    def _listed(self, function: Callable[[Any], Iterable[Any]] | None, name: str, kind: type[T]) -> list[T]:
        """The results of a function of the measure that returns or yields several; none if there is no function."""
        if function is None:
            return []
        return guarded_list(f"{self.label}, {name},", function, self.settings, kind=kind)


def bound_measure(registry: Registry, name: str, values: Mapping[str, Any], where: str) -> BoundMeasure:
    """Return the measure that a plugin offers as ``PLUGIN/NAME``, with its settings made from plain values.

    ``where`` begins each line of the error of wrong settings. Raises ``InputError`` if there is no such measure or its
    settings are wrong, and ``PluginError`` if the plugin cannot be used.
    """
    measure = registry.get("measures", name)
    label = f"measure {name!r} of {registry.label(name.partition('/')[0])}"
    settings = optional_settings(measure.settings, values, where, f"the measure {name}")
    return BoundMeasure(measure, function_of(measure), settings, label)


class _Reader:
    """The prompts as an iterator for a function. It knows which prompt the function works on."""

    def __init__(self, prompts: Sequence[MeasuredPrompt]) -> None:
        self._prompts = prompts
        self._read = 0
        self._is_exhausted = False

    def __iter__(self) -> Iterator[MeasuredPrompt]:
        return self

    def __next__(self) -> MeasuredPrompt:
        if self._read == len(self._prompts):
            self._is_exhausted = True
            raise StopIteration
        self._read += 1
        return self._prompts[self._read - 1]

    def place(self, values: int) -> str:
        """Return where the function is after a number of values.

        It is at the prompt that it read last; if it has read all prompts at once, at the first one without a value.
        """
        number = values if self._is_exhausted else self._read - 1
        return f", for the prompt {self._prompts[number].prompt.id}" if 0 <= number < len(self._prompts) else ""


@contextmanager
def _errors(place: Callable[[], str]) -> Iterator[None]:
    """Turn an exception of a function into a ``StageError`` that begins with the place where the function was."""
    try:
        yield
    except TutelageError:
        raise
    except (Exception, SystemExit) as error:
        raise StageError(f"{place()} failed: {error_text(error)}") from error


def _iterable(found: object, label: str) -> Iterable[Any]:
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise PluginError(f"{label}, returned {found!r}; it must return or yield one value per prompt")
    return found


def _without_text(item: MeasuredPrompt) -> Measurement:
    return Measurement(None, max(item.without_text, 1), detail="no answer has text", prompt_id=item.prompt.id)
