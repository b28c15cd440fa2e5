"""``tutelage evaluate difference``: whether models differ, and how many prompts it would take to tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tutelage.cli.evaluate.options import PATH
from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.models import split_run
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, say, show
from tutelage.errors import InputError
from tutelage.evaluation.significance import ModelComparison, compare_all
from tutelage.results.run_results import METRICS, RunResults
from tutelage.results.score_files import ObservedModel, read_observations
from tutelage.results.wording import metric_words
from tutelage.runs.store import is_run


@click.command("difference")
@click.argument("models", metavar="RUN_OR_SCORES...", nargs=-1, required=True, type=PATH)
@click.option("--metric", type=click.Choice(METRICS), default=METRICS[0], show_default=True, help="Of a run's models.")
@as_json
def difference_command(models: Sequence[Path], metric: str, as_json: bool) -> None:
    """Say whether models differ, paired by prompt.

    Each RUN gives all its models, RUN:MODEL one of them, and a file of scores, values or AlpacaEval annotations is one
    model. p-values are adjusted for the number of comparisons (Holm).
    """
    observed = [one for path in models for one in _observed(path, metric)]
    names = [one.name for one in observed]
    if len(observed) < 2:
        raise click.UsageError("give two models at least: a RUN, or two files")
    if len(set(names)) < len(names):
        raise InputError(f"two of the models have one name: {', '.join(names)}; rename a file")
    comparisons = compare_all({one.name: one.observations for one in observed})
    _check_paired(comparisons)
    left_out = {one.name: one.left_out for one in observed if one.left_out}
    if as_json:
        print_json({"comparisons": comparisons, "left_out": left_out})
        return
    show(_table(comparisons))
    for name, count in left_out.items():
        say(f"{name}: {count:,} without a value are left out")


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
        found = comparison.separation
        rows.append(
            (
                f"{comparison.left} - {comparison.right}",
                metric_words(found.difference, decimals=3, sign=True),
                f"{found.difference.n:,}",
                _p_words(found.p_value),
                _p_words(comparison.p_value_adjusted),
                "-" if found.prompts_needed is None else f"{found.prompts_needed:,}",
            )
        )
    return Table(("models", "difference [95%]", "prompts", "p", "p adjusted", "prompts needed"), rows)


def _p_words(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
