"""The action of a transform: a plugin's function makes records of the records of other artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tutelage.errors import PluginError, StageError
from tutelage.examples import Example, LabelledAnswer, Preference
from tutelage.execution.step_context import Artifact, StepContext
from tutelage.files.jsonl import read_rows
from tutelage.files.trl_format import (
    labelled_row,
    preference_row,
    read_examples,
    read_labelled,
    read_preferences,
    supervised_row,
)
from tutelage.pipeline_steps import RECORD_TYPES, Kind, TransformStep
from tutelage.planning.steps import Transform
from tutelage.plugins import built_in
from tutelage.plugins.stage_checks import plugin_errors
from tutelage.preferences.labelling import label_counts
from tutelage.preferences.pairing import PairOptions, ScoredAnswer, sides_problem


def transform(step: Transform, at: StepContext) -> Artifact:
    """Call the function of a transform, check the records that it yields, and write them in their order.

    A preference pair whose sides are equal, empty or tied is dropped and counted. Raises PluginError if a record is not
    valid, and StageError if the function raises an exception, or if no record is left for a step that needs some.
    """
    function, label = _function(step, at)
    arguments = [_read(path, kind, at) for path, kind in step.reads]
    settings: dict[str, Any] = {} if step.options is None else {"options": step.options}
    if step.rubric:
        settings["rubric"] = at.registry.get("rubrics", step.rubric)
    at.context.expect(step.count)
    dropped: Counter[str] = Counter()
    records: dict[object, Any] = {}
    with plugin_errors(label):
        for number, record in enumerate(_records(function, arguments, settings, label)):
            _check(record, step.makes, label)
            id = getattr(record, "id", number)
            if id in records:
                raise PluginError(f"{label} yielded two {step.makes} with the id {id!r}")
            at.context.advance(1)
            if reason := _problem(record):
                dropped[reason] += 1
            else:
                records[id] = record
    if not records and not at.may_be_empty(step):
        reasons = "".join(f"; {count:,} were dropped: {reason}" for reason, count in sorted(dropped.items()))
        raise StageError(f"{step.output}: no {step.makes} are left: {label} made none that can be used{reasons}")
    rows = [_row(record) for record in records.values()]
    if step.makes == "labelled":
        counted = label_counts(records.values())
    else:
        counted = {"pairs" if step.makes == "preferences" else step.makes: len(rows)}
    counts = {**counted, **dict(sorted(dropped.items()))}
    return Artifact(counts, lambda: at.store.write(step.output, rows), rows=len(rows))


def _function(step: Transform, at: StepContext) -> tuple[Callable[..., Any], str]:
    """The function of the declaration, and its description for messages."""
    declared = at.registry.get("controls" if step.is_control else "pipelines", step.pipeline)
    plugin = at.registry.label(step.pipeline.partition("/")[0] if "/" in step.pipeline else built_in.NAME)
    label = f"transform {step.name!r} of {step.pipeline} ({step.function}) of {plugin}"
    for one in declared.steps:
        if isinstance(one, TransformStep) and one.name == step.name and callable(one.function):
            return one.function, label
    raise PluginError(f"{label}: the plugin does not declare it any more; run the command again")


def _read(path: str, kind: Kind, at: StepContext) -> Sequence[Any]:
    match kind:
        case "preferences":
            return read_preferences(at.store.complete(path))
        case "examples":
            return read_examples(at.store.complete(path))
        case "labelled":
            return read_labelled(at.store.complete(path))
        case "records":
            return [row for _, row in read_rows(at.store.complete(path))]
        case _:
            return at.store.read(path, RECORD_TYPES[kind])


def _records(
    function: Callable[..., Any], arguments: Sequence[Sequence[Any]], settings: Mapping[str, Any], label: str
) -> Iterator[Any]:
    found = function(*arguments, **settings)
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise PluginError(f"{label} returned {found!r}; it must return or yield records")
    return iter(found)


def _check(record: object, kind: Kind, label: str) -> None:
    """Raise PluginError if a record has another type than those of its kind."""
    if not isinstance(record, RECORD_TYPES[kind]):
        raise PluginError(f"{label} yielded {record!r}; {kind} are records of the class {RECORD_TYPES[kind].__name__}")


def _problem(record: object) -> str:
    """The reason why a record cannot be used; empty if it can."""
    if not isinstance(record, Preference):
        return ""
    chosen = ScoredAnswer(record.chosen_id, record.chosen, record.score_chosen)
    rejected = ScoredAnswer(record.rejected_id, record.rejected, record.score_rejected)
    return sides_problem(chosen, rejected, PairOptions())


def _row(record: Any) -> Any:
    if isinstance(record, Preference):
        return preference_row(record)
    if isinstance(record, LabelledAnswer):
        return labelled_row(record)
    return supervised_row(record.turns, record.answer) if isinstance(record, Example) else record
