"""Figures as JSON and as tables, the same in every measure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tutelage.cli.output import Table, say
from tutelage.evaluation.intervals import Metric
from tutelage.files.jsonl import converter
from tutelage.results.wording import metric_words


def print_json(values: Any) -> None:
    """Records or plain values as readable JSON."""
    say(json.dumps(converter().unstructure(values), indent=2, allow_nan=False))


def metrics_table(metrics: Mapping[str, Metric], title: str = "") -> Table:
    """A row a metric: its value with the interval, and what it rests on."""
    rows = [(name, metric_words(metric, decimals=3), f"{metric.n:,}") for name, metric in metrics.items()]
    return Table(("measure", "value [95%]", "n"), rows, title)
