"""Conversion between records and pandas data frames, for notebooks. Needs pandas.

agreement(records_of(judge_frame, Rating), records_of(gold_frame, Rating))
frame_of(head_to_head(contests, verdicts).pairs)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, TypeAlias, TypeVar

import attrs

from tutelage.errors import InputError
from tutelage.evaluation.intervals import Metric

T = TypeVar("T")
Frame: TypeAlias = Any
"""A ``pandas.DataFrame``. It is untyped because pandas is not a dependency of core."""


def records_of(frame: Frame, cls: type[T]) -> list[T]:
    """Make one record per row of a data frame.

    ``cls`` is a record class of ``tutelage.evaluation`` or ``tutelage.records``: ``Rating``, ``Contest``, ``Verdict``,
    ``Observation``, ``Annotation`` or ``JudgedItem``. The columns are named like its fields. A missing value (NaN,
    None, NA) becomes None. Raises ``InputError`` if a column is missing or is not a field of ``cls``, or if a value is
    missing in a field that cannot be None.
    """
    fields = {field.name: field for field in attrs.fields(cls) if field.init}  # type: ignore[arg-type]
    columns = [str(column) for column in frame.columns]
    needed = [name for name, field in fields.items() if field.default is attrs.NOTHING]
    if problems := [*(set(columns) - set(fields)), *(set(needed) - set(columns))]:
        optional = ", ".join(name for name in fields if name not in needed) or "none"
        raise InputError(
            f"wrong columns for {cls.__name__}: required are {', '.join(needed)}; optional are {optional}; "
            f"wrong or missing: {', '.join(sorted(problems))}"
        )
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [_record(row, cls, fields, number) for number, row in enumerate(rows)]


def frame_of(records: Iterable[Any]) -> Frame:
    """Make a data frame with one row per record.

    A metric becomes four columns: ``NAME``, ``NAME_low``, ``NAME_high`` and ``NAME_n``; a mapping of metrics becomes
    those of each metric. A nested record becomes one column per field: ``NAME_FIELD``. Raises ``InputError`` if pandas
    is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise InputError("data frames need pandas; run: pip install pandas") from error
    return pandas.DataFrame([_flat(record) for record in records])


def _record(row: Mapping[Any, Any], cls: type[T], fields: Mapping[str, Any], number: int) -> T:
    for name, value in row.items():
        if value is None and "None" not in str(fields[name].type):
            raise InputError(f"row {number}: the value of {name} is missing; a {cls.__name__} requires it")
    return cls(**{str(name): value for name, value in row.items()})


def _flat(record: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in attrs.asdict(record, recurse=False).items():
        if isinstance(value, Metric):
            flat |= _flat_metrics({name: value})
        elif isinstance(value, Mapping) and all(isinstance(one, Metric) for one in value.values()):
            flat |= _flat_metrics(value)
        elif attrs.has(type(value)):
            flat |= {f"{name}_{key}": part for key, part in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _flat_metrics(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, one in metrics.items():
        flat |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high, f"{name}_n": one.n}
    return flat
