"""The files of a summary: ``summary.json``, and its tables as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tutelage.evaluation.chance import JUDGES
from tutelage.evaluation.intervals import Metric
from tutelage.files.whole import write_whole
from tutelage.planning.artifacts import SUMMARY, table
from tutelage.results.summary import AgreementResult, ComparisonResult, Summary, VariantResult
from tutelage.runs.store import Store


def write_summary(summary: Summary, store: Store) -> None:
    """Write the CSV tables under ``evaluation/``, and then ``summary.json``."""
    rows = {"models": summary.models, "differences": summary.differences, "agreement": summary.agreement}
    for name, results in rows.items():
        _write_table(store.path(table(name)), list(_metric_rows(results)))
    _write_table(store.path(table("comparisons")), list(_comparison_rows(summary.comparisons)))
    if summary.variants:
        _write_table(store.path(table("variants")), list(_variant_rows(summary.variants)))
    store.write_json(SUMMARY, summary)


def _metric_rows(results: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """One row per metric: the fields of its result, its name, value, interval and n, and why it has no interval.

    The column ``scores`` of agreements exists only if some of them are of expected scores. Agreements have one column
    more for each judge without skill.
    """
    results = list(results)
    omitted = {"metrics", "chance"}
    if all(getattr(one, "scores", "parsed") == "parsed" for one in results):
        omitted.add("scores")
    for result in results:
        about = {key: value for key, value in attrs.asdict(result, recurse=False).items() if key not in omitted}
        for name, metric in result.metrics.items():
            row = {**about, "metric": name, **attrs.asdict(metric)}
            if isinstance(result, AgreementResult):
                row |= {f"{judge}_judge": result.chance.get(judge, {}).get(name) for judge in JUDGES}
            yield row


def _comparison_rows(results: Iterable[ComparisonResult]) -> Iterator[Mapping[str, Any]]:
    for result in results:
        about = {key: value for key, value in attrs.asdict(result, recurse=False).items() if key != "win_rate"}
        rate = result.win_rate
        yield {**about, "win_rate": rate.value, "win_rate_low": rate.low, "win_rate_high": rate.high}


def _variant_rows(results: Iterable[VariantResult]) -> Iterator[Mapping[str, Any]]:
    for result in results:
        gold, difference = result.metrics["gold_score"], result.difference or Metric(None, None, None, 0)
        yield {
            "variant": result.variant,
            "model": result.model,
            **{f"gold_score_{key}": getattr(gold, key) for key in ("value", "low", "high")},
            **{f"difference_{key}": getattr(difference, key) for key in ("value", "low", "high")},
            "p_value_adjusted": result.p_value_adjusted,
        }


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]) if rows else [])
            table.writeheader()
            table.writerows(rows)

    write_whole(path, write)
