"""Data frames in and out, where pandas is installed: the same measures for those who work in notebooks.

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
"""A ``pandas.DataFrame``. pandas is no dependency of the core, and has no types without its stubs."""


def records_of(frame: Frame, cls: type[T]) -> list[T]:
    """One record a row, from the columns of the record's field names; a missing value (NaN, None, NA) is None.

    ``cls`` is any record of ``tutelage.evaluation`` or ``tutelage.records``: ``Rating``, ``Contest``, ``Verdict``,
    ``Observation``, ``Annotation``, ``JudgedItem``. Raises ``InputError`` where a column is missing, is not of this
    record, or a field that has no room for None has none.
    """
    fields = {field.name: field for field in attrs.fields(cls) if field.init}  # type: ignore[arg-type]
    columns = [str(column) for column in frame.columns]
    needed = [name for name, field in fields.items() if field.default is attrs.NOTHING]
    if problems := [*(set(columns) - set(fields)), *(set(needed) - set(columns))]:
        raise InputError(
            f"a {cls.__name__} is made from columns {', '.join(needed)} and perhaps "
            f"{', '.join(name for name in fields if name not in needed) or 'no others'}; wrong or missing: "
            f"{', '.join(sorted(problems))}"
        )
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [_record(row, cls, fields, number) for number, row in enumerate(rows)]


def frame_of(records: Iterable[Any]) -> Frame:
    """One row a record. A metric becomes four columns: ``NAME``, ``NAME_low``, ``NAME_high``, ``NAME_n``."""
    return import_module("pandas").DataFrame([_flat(record) for record in records])


def _record(row: Mapping[Any, Any], cls: type[T], fields: Mapping[str, Any], number: int) -> T:
    for name, value in row.items():
        if value is None and "None" not in str(fields[name].type):
            raise InputError(f"row {number}: no {name}, which every {cls.__name__} has")
    return cls(**{str(name): value for name, value in row.items()})


def _flat(record: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in attrs.asdict(record, recurse=False).items():
        if isinstance(value, Metric):
            flat |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high, f"{name}_n": value.n}
        elif attrs.has(type(value)):
            flat |= {f"{name}_{key}": part for key, part in _flat(value).items()}
        else:
            flat[name] = value
    return flat
