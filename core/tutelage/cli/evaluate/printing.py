"""Results of the evaluations as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tutelage.cli.output import Table, print_line
from tutelage.evaluation.intervals import Metric
from tutelage.files.jsonl import converter
from tutelage.results.wording import metric_words


def print_json(values: Any) -> None:
    """Print records or plain values as indented JSON."""
    print_line(json.dumps(converter().unstructure(values), indent=2, allow_nan=False))


def metrics_table(metrics: Mapping[str, Metric], title: str = "") -> Table:
    """Return a table with one row per metric: value with its interval, and sample size."""
    rows = [(name, metric_words(metric, decimals=3), f"{metric.n:,}") for name, metric in metrics.items()]
    return Table(("measure", "value [95%]", "n"), rows, title)
