"""``tutelage evaluate difference``: test whether models differ, and how many prompts that test needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.models import split_run
from tutelage.cli.options import PATH, as_json
from tutelage.cli.output import Table, print_line, print_table
from tutelage.errors import InputError
from tutelage.evaluation.significance import ModelComparison, compare_all
from tutelage.results.run_results import METRICS, RunResults
from tutelage.results.score_files import ObservedModel, read_observations
from tutelage.results.wording import metric_words
from tutelage.runs.store import is_run


@click.command("difference")
@click.argument("models", metavar="RUN_OR_SCORES...", nargs=-1, required=True, type=PATH)
@click.option("--metric", type=click.Choice(METRICS), default=METRICS[0], show_default=True, help="Metric of a run.")
@as_json
def difference_command(models: Sequence[Path], metric: str, as_json: bool) -> None:
    """Test whether models differ, with values paired by prompt.

    RUN selects all models of the run, RUN:MODEL one of them. A file with scores, values or AlpacaEval annotations is
    one model. p-values are adjusted for the number of comparisons (Holm).
    """
    observed = [model for path in models for model in _observed(path, metric)]
    names = [model.name for model in observed]
    if len(observed) < 2:
        raise click.UsageError("at least two models are required: a RUN, or two files")
    if len(set(names)) < len(names):
        raise InputError(f"two models have the same name: {', '.join(names)}; rename a file")
    comparisons = compare_all({model.name: model.observations for model in observed})
    _check_paired(comparisons)
    left_out = {model.name: model.left_out for model in observed if model.left_out}
    if as_json:
        print_json({"comparisons": comparisons, "left_out": left_out})
        return
    print_table(_table(comparisons))
    for name, count in left_out.items():
        print_line(f"{name}: {count:,} rows without a value are ignored")


def _observed(path: Path, metric: str) -> Iterator[ObservedModel]:
    folder, model = split_run(str(path))
    if is_run(folder):
        results = RunResults.open(folder)
        for id in [model] if model else results.models():
            yield results.observed(id, metric)
    else:
        yield read_observations(path)


def _check_paired(comparisons: Sequence[ModelComparison]) -> None:
    for comparison in comparisons:
        if comparison.separation.difference.n == 0:
            raise InputError(f"{comparison.left} and {comparison.right} have no prompt in common")


def _table(comparisons: Sequence[ModelComparison]) -> Table:
    rows = []
    for comparison in comparisons:
        separation = comparison.separation
        rows.append(
            (
                f"{comparison.left} - {comparison.right}",
                metric_words(separation.difference, decimals=3, sign=True),
                f"{separation.difference.n:,}",
                _p_text(separation.p_value),
                _p_text(comparison.p_value_adjusted),
                "-" if separation.prompts_needed is None else f"{separation.prompts_needed:,}",
            )
        )
    return Table(("models", "difference [95%]", "prompts", "p", "p adjusted", "prompts needed"), rows)


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
