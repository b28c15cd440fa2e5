"""The option ``--metric``. It is in a module of its own, because its help needs the modules that read results."""

from __future__ import annotations

import click

from tutelage.results.run_results import METRICS

metric_option = click.option(
    "--metric",
    metavar="NAME",
    default=METRICS[0],
    show_default=True,
    help=f"Metric of the runs: {', '.join(METRICS[:-1])}, {METRICS[-1]}, or the name of a measure of their recipes.",
)
