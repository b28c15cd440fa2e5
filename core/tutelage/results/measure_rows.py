"""The measures of a summary as rows of a table, for the end of a run and for the report."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from tutelage.evaluation.intervals import Metric
from tutelage.results.summary import Summary, coverage_of, start_model
from tutelage.results.wording import measured_words, metric_words


@frozen
class MeasureRow:
    """A measure of one model, as texts."""

    measure: str
    """Name of the measure, with its unit."""
    model: str
    value: str
    gain: str
    """Difference to the start model, paired by prompt."""
    measured: str
    """Percentage of the units that have a value."""


def measure_rows(summary: Summary) -> Iterator[MeasureRow]:
    """Yield a row for each measure and each model that has it, over all seeds."""
    models = summary.overall()
    seed, start = models[0].seed if models else None, start_model(summary)
    gains = {one.left: one.metrics for one in summary.differences if (one.right, one.seed) == (start, seed)}
    for name, info in summary.measures.items():
        unit = " %" if info.is_share else f" ({info.unit})" if info.unit else ""
        for model in models:
            if (figure := model.metrics.get(name)) is None:
                continue
            coverage = model.metrics.get(coverage_of(name), Metric(None, None, None, 0))
            yield MeasureRow(
                measure=f"{name}{unit}",
                model=model.id,
                value=measured_words(figure, info),
                gain=measured_words(gains.get(model.id, {}).get(name), info, sign=True),
                measured=metric_words(Metric(coverage.value, None, None, coverage.n), scale=100, decimals=0),
            )
