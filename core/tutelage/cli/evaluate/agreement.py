"""``tutelage evaluate agreement``: how well a judge's scores agree with the gold."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.evaluate.options import PATH
from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.options import as_json
from tutelage.cli.output import say, show
from tutelage.evaluation.agreement import Agreement, agreement
from tutelage.results.run_results import RunResults
from tutelage.results.score_files import check_overlap, read_ratings
from tutelage.results.summarise import AGREEMENT_METRICS

_NAMES_AS_PUBLISHED = AGREEMENT_METRICS[:5]


@click.command("agreement")
@click.argument("run", type=PATH, required=False)
@click.option("--judge", type=PATH, help="The judge's scores.")
@click.option("--gold", type=PATH, help="The gold's scores of the same answers.")
@click.option("--as-published", is_flag=True, help="As the paper's own notebook computed it: see docs/evaluation.md.")
@click.option("--lowest", type=float, default=0.0, show_default=True, help="Of the scale.")
@click.option("--highest", type=float, default=5.0, show_default=True, help="Of the scale.")
@as_json
def agreement_command(
    run: Path | None,
    judge: Path | None,
    gold: Path | None,
    as_published: bool,
    lowest: float,
    highest: float,
    as_json: bool,
) -> None:
    """Say how well a judge agrees with the gold.

    Of two files: judgements of a run or of `stage judge`, score files of the paper's code, or rows with `id` and
    `score`. Of a RUN: each model's own judging against the evaluator's scores.
    """
    if run is not None and not (judge or gold or as_published):
        _of_run(run, as_json)
    elif run is None and judge and gold:
        ratings = read_ratings(judge), read_ratings(gold)
        check_overlap(*ratings)
        _of_files(agreement(*ratings, highest, lowest, as_published), as_published, as_json)
    else:
        raise click.UsageError("give a RUN, or --judge FILE and --gold FILE")


def _of_files(made: Agreement, as_published: bool, as_json: bool) -> None:
    metrics = {name: getattr(made, name) for name in AGREEMENT_METRICS}
    if as_json:
        print_json({**metrics, "items": made.items, "unmatched": made.unmatched, "as_published": as_published})
        return
    shown = {name: metric for name, metric in metrics.items() if not as_published or name in _NAMES_AS_PUBLISHED}
    show(metrics_table(shown))
    say(f"\n{made.items:,} answers that both scored; {made.unmatched:,} that only one of the files holds")
    if as_published:
        say("As published: rows joined by position, and a reply without a score is a score of -1.")


def _of_run(run: Path, as_json: bool) -> None:
    results = RunResults.open(run).agreement()
    if as_json:
        print_json(results)
        return
    for result in results:
        show(metrics_table(result.metrics, f"{result.model}, judging its {result.answers} answers"))
        say()
