"""``tutelage evaluate agreement``: measure how well a judge's scores agree with gold scores."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.options import PATH, as_json
from tutelage.cli.output import print_line, print_status, print_table, print_text
from tutelage.errors import InputError, nearest
from tutelage.evaluation.agreement import Agreement, Rating, agreement, joined_by_id
from tutelage.evaluation.chance import JUDGES, Chance, chance
from tutelage.evaluation.self_preference import METRICS, SelfPreference, self_preference
from tutelage.results.run_results import RunResults
from tutelage.results.score_files import check_overlap, read_authors, read_ratings
from tutelage.results.summarise import AGREEMENT_METRICS
from tutelage.results.wording import skill_words

_SHOWN_AS_PUBLISHED = (*AGREEMENT_METRICS[:5], *METRICS)


@click.command("agreement")
@click.argument("run", type=PATH, required=False)
@click.option("--judge", type=PATH, help="File with the judge's scores.")
@click.option("--gold", type=PATH, help="File with the gold scores of the same answers.")
@click.option("--own", metavar="MODEL", help="Also measure the self-preference of the judge: name its own model.")
@click.option("--answers", type=PATH, help="With --own: file with the `model` that wrote each answer.")
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
    own: str | None,
    answers: Path | None,
    as_published: bool,
    lowest: float,
    highest: float,
    as_json: bool,
) -> None:
    """Measure how well a judge's scores agree with gold scores.

    Give two files: judgements of a run or of `stage judge`, score files of the paper's code, or rows with `id` and
    `score`. Or give a RUN: the judgements of each model are compared with the evaluator's scores.

    With --own and --answers, also how much more the judge overrates the answers of its own model than those of other
    models. ANSWERS has candidates of a run with `model`, or rows with `id` and `model`.
    """
    if (own is None) != (answers is None):
        raise click.UsageError("give --own and --answers together: the judge's model, and the model of each answer")
    if run is not None and not (judge or gold or as_published or own):
        _show_run(run, as_json)
    elif run is None and judge and gold:
        ratings = read_ratings(judge), read_ratings(gold)
        check_overlap(*ratings)
        preference = None if own is None or answers is None else _self_preference(*ratings, own, answers)
        found, by_chance = agreement(*ratings, highest, lowest, as_published), chance(*ratings)
        _show_files(found, by_chance, as_published, as_json, preference)
    else:
        raise click.UsageError("give a RUN, or --judge FILE and --gold FILE")


def _self_preference(judge: list[Rating], gold: list[Rating], own: str, answers: Path) -> SelfPreference:
    authors = read_authors(answers)
    if own not in authors.values():
        raise InputError(f"{answers}: no answer is of the model {own!r}{nearest(own, set(authors.values()))}")
    scored = joined_by_id(judge, gold)
    joined = [pair for pair in scored if pair[0].id in authors]
    of_judge = [pair for pair in joined if authors[pair[0].id] == own]
    found = self_preference(of_judge, [pair for pair in joined if authors[pair[0].id] != own])
    if not found.self_preference.n:
        raise InputError(
            f"{answers}: no prompt has an answer of {own!r} and one of another model that both files score; it names "
            f"the models of {len(joined):,} of the {len(scored):,} answers"
        )
    if missing := len(scored) - len(joined):
        print_status(
            f"self-preference: {answers} has no model for {missing:,} of {len(scored):,} answers; they are left out"
        )
    return found


def _show_files(
    found: Agreement, by_chance: Chance, as_published: bool, as_json: bool, preference: SelfPreference | None
) -> None:
    metrics = {name: getattr(found, name) for name in AGREEMENT_METRICS}
    if preference is not None:
        metrics |= attrs.asdict(preference, recurse=False)
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
    shown = {name: metric for name, metric in metrics.items() if not as_published or name in _SHOWN_AS_PUBLISHED}
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
