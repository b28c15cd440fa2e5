"""``tutelage compare``: compare models, variants and seeds of one or several runs, paired by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.metrics import metric_option
from tutelage.cli.models import split_run
from tutelage.cli.options import PATH, as_json
from tutelage.cli.output import Table, print_line, print_status, print_table, print_text
from tutelage.recipe.differences import shown
from tutelage.report.page import check_libraries, write_comparison
from tutelage.results.comparing import ComparedModel, ModelsCompared, compare_models
from tutelage.results.selecting import select_models
from tutelage.results.wording import measure_words, metric_words, p_words


@click.command("compare")
@click.argument("sources", metavar="RUN[:MODEL]...", nargs=-1, required=True)
@click.option("--against", metavar="MODEL", help="Compare every model with this one, named as in the table.")
@click.option("--seeds", "by_seed", is_flag=True, help="Compare each seed of a model as a model of its own.")
@metric_option
@click.option("--page", metavar="FILE", type=PATH, help="Also write the comparison as one HTML page, with all answers.")
@as_json
def command(
    sources: Sequence[str], against: str | None, by_seed: bool, metric: str, page: Path | None, as_json: bool
) -> None:
    """Compare models of one or several runs on the prompts that they share.

    RUN selects all models of a run and of its variants, RUN:MODEL or RUN:MODEL@VARIANT one of them. If two names are
    equal, they are preceded by the name of the run. Each model is compared with the model of the same name in the first
    run, variant or seed. Within one run, or if every argument names a model, each model is compared with the first one.
    Differences are paired by prompt; p-values are adjusted for the number of comparisons (Holm).

    --page writes one HTML file that needs no network: plots and tables of the comparison, and the answers of all models
    to each shared prompt side by side. The page needs the libraries of the extra `report`.
    """
    if page is not None:
        check_libraries()
    parts = [split_run(source) for source in sources]
    models = select_models(parts, variants=True, by_seed=by_seed)
    every_model_named = all(model for _, model in parts) and not by_seed
    compared = compare_models(models, metric, against, first=every_model_named)
    if page is not None:
        write_comparison(models, compared, page)
    if as_json:
        print_json(compared)
    else:
        _show(compared)
    if page is not None:
        print_status(f"A page with plots and all answers: {page}")


def _show(compared: ModelsCompared) -> None:
    print_table(_models_table(compared))
    print_line()
    if compared.recipes:
        print_table(_recipes_table(compared))
        print_line()
    if compared.measure is not None:
        print_text(f"{compared.metric}: {measure_words(compared.measure)}.")
    print_text("Intervals are 95% intervals. Differences are paired by prompt; n is the number of prompts.")
    for note in compared.notes:
        print_text(f"note: {note}")


def _models_table(compared: ModelsCompared) -> Table:
    others = {model.against for model in compared.models if model.against is not None}
    one = next(iter(others)) if len(others) == 1 else None
    difference = f"against {one} [95%]" if one else "difference [95%]"
    decimals = 1 if compared.metric == "answer_words" else 3
    columns = ["model", f"{compared.metric} [95%]"]
    if compared.metric != "answer_words":
        columns.append("words")
    columns += [difference, "n", "p adjusted"]
    rows = [list(_cells(model, compared.metric, decimals)) for model in compared.models]
    return Table(columns, rows, "" if one else _title(compared))


def _cells(model: ComparedModel, metric: str, decimals: int) -> Iterator[str]:
    yield model.name
    yield metric_words(model.metrics[metric], decimals=decimals)
    if metric != "answer_words":
        words = model.metrics["answer_words"].value
        yield "-" if words is None else f"{words:.1f}"
    separation = model.separation
    yield metric_words(separation.difference, decimals=decimals, sign=True) if separation else "-"
    yield f"{separation.difference.n:,}" if separation else "-"
    yield p_words(model.p_value_adjusted)


def _title(compared: ModelsCompared) -> str:
    first = compared.models[0]
    return f"Each model against the one of the same name in the first run, variant or seed (that of {first.name})"


def _recipes_table(compared: ModelsCompared) -> Table:
    names = list(next(iter(compared.recipes.values())))
    rows = [(key, *(shown(values[name]) for name in names)) for key, values in compared.recipes.items()]
    return Table(("recipe key", *names), rows, "Keys in which the recipes differ", left=frozenset(names))
