"""``tutelage evaluate difference``: test whether models differ, and how many prompts that test needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from attrs import evolve

from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.metrics import metric_option
from tutelage.cli.models import split_run
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, print_table, print_text
from tutelage.errors import InputError
from tutelage.evaluation.significance import ModelComparison, compare_all
from tutelage.results.score_files import ObservedModel, read_observations
from tutelage.results.selecting import select_models
from tutelage.results.wording import metric_words, p_words
from tutelage.runs.store import is_run


@click.command("difference")
@click.argument("sources", metavar="RUN_OR_SCORES...", nargs=-1, required=True)
@metric_option
@as_json
def difference_command(sources: Sequence[str], metric: str, as_json: bool) -> None:
    """Test whether models differ, with values paired by prompt.

    RUN selects all models of the run, RUN:MODEL one of them. If two names are equal, they are preceded by the name of
    the run. A file with scores, values or AlpacaEval annotations is one model. p-values are adjusted for the number of
    comparisons (Holm).
    """
    observed = _observed(sources, metric)
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
        print_text(f"{name}: {count:,} rows without a value are ignored")


def _observed(sources: Sequence[str], metric: str) -> list[ObservedModel]:
    """The models of the runs, then those of the files."""
    parts = [(source, split_run(source)) for source in sources]
    selected = select_models([part for _, part in parts if is_run(part[0])])
    models = [evolve(one.results.observed(one.model, metric), name=one.name) for one in selected]
    models += [read_observations(Path(source)) for source, part in parts if not is_run(part[0])]
    return models


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
                p_words(separation.p_value),
                p_words(comparison.p_value_adjusted),
                "-" if separation.prompts_needed is None else f"{separation.prompts_needed:,}",
            )
        )
    return Table(("models", "difference [95%]", "prompts", "p", "p adjusted", "prompts needed"), rows)
