"""``tutelage evaluate agreement``: measure how well a judge's scores agree with gold scores."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.options import PATH, as_json
from tutelage.cli.output import print_line, print_table, print_text
from tutelage.evaluation.agreement import Agreement, agreement
from tutelage.evaluation.chance import JUDGES, Chance, chance
from tutelage.results.run_results import RunResults
from tutelage.results.score_files import check_overlap, read_ratings
from tutelage.results.summarise import AGREEMENT_METRICS
from tutelage.results.wording import skill_words

_NAMES_AS_PUBLISHED = AGREEMENT_METRICS[:5]


@click.command("agreement")
@click.argument("run", type=PATH, required=False)
@click.option("--judge", type=PATH, help="File with the judge's scores.")
@click.option("--gold", type=PATH, help="File with the gold scores of the same answers.")
@click.option(
    "--as-published", is_flag=True, help="Compute the metrics as the paper's notebook does (see docs/evaluation.md)."
)
@click.option("--lowest", type=float, default=0.0, show_default=True, help="Lowest score of the scale.")
@click.option("--highest", type=float, default=5.0, show_default=True, help="Highest score of the scale.")
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
    """Measure how well a judge's scores agree with gold scores.

    Give two files: judgements of a run or of `stage judge`, score files of the paper's code, or rows with `id` and
    `score`. Or give a RUN: the judgements of each model are compared with the evaluator's scores.
    """
    if run is not None and not (judge or gold or as_published):
        _show_run(run, as_json)
    elif run is None and judge and gold:
        ratings = read_ratings(judge), read_ratings(gold)
        check_overlap(*ratings)
        _show_files(agreement(*ratings, highest, lowest, as_published), chance(*ratings), as_published, as_json)
    else:
        raise click.UsageError("give a RUN, or --judge FILE and --gold FILE")


def _show_files(found: Agreement, by_chance: Chance, as_published: bool, as_json: bool) -> None:
    metrics = {name: getattr(found, name) for name in AGREEMENT_METRICS}
    if as_json:
        print_json(
            {
                **metrics,
                "chance": by_chance,
                "items": found.items,
                "unmatched": found.unmatched,
                "as_published": as_published,
            }
        )
        return
    shown = {name: metric for name, metric in metrics.items() if not as_published or name in _NAMES_AS_PUBLISHED}
    print_table(metrics_table(shown))
    print_line(f"\n{found.items:,} answers are in both files; {found.unmatched:,} are in only one")
    if not as_published:
        _show_chance(by_chance)
    if as_published:
        print_text("As published: rows are joined by position, and a reply without a score counts as -1.")


def _show_run(run: Path, as_json: bool) -> None:
    results = RunResults.open(run).agreement()
    if as_json:
        print_json(results)
        return
    for result in results:
        how = "" if result.scores == "parsed" else f", by {result.scores} scores"
        print_table(metrics_table(result.metrics, f"{result.model}, judging its {result.answers} answers{how}"))
        _show_chance(result.chance)
        print_line()


def _show_chance(by_chance: Chance) -> None:
    if by_chance:
        shown = "; ".join(f"{judge} {skill_words(by_chance, judge)}" for judge in JUDGES)
        print_text(f"judges without skill, pairwise accuracy and Spearman: {shown}")
