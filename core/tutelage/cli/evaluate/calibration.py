"""``tutelage evaluate calibration``: what a judge's scores look like, so that one can choose it before paying."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from tutelage.cli.evaluate.options import PATH
from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, say, show
from tutelage.evaluation.calibration import Calibration, calibrate
from tutelage.evaluation.intervals import Metric
from tutelage.results.run_results import RunResults
from tutelage.results.score_files import read_judged
from tutelage.results.verdict_files import read_verdicts


@click.command("calibration")
@click.argument("run", type=PATH, required=False)
@click.option("--judge", type=PATH, help="The judge's scores, with every sample.")
@click.option("--gold", type=PATH, help="The gold's scores: for confusion and verbosity bias.")
@click.option("--answers", type=PATH, help="The answers: for everything about their length.")
@click.option("--verdicts", type=PATH, help="The judge's verdicts in both orders: for position bias.")
@as_json
def calibration_command(
    run: Path | None, judge: Path | None, gold: Path | None, answers: Path | None, verdicts: Path | None, as_json: bool
) -> None:
    """Describe a judge: how it spreads scores, repeats itself, and goes by length or place.

    Of files as `agreement` reads them, or of a RUN: each model's judging of its own answers.
    """
    if run is not None and not (judge or gold or answers):
        results = RunResults.open(run)
        found = {model: calibrate(items) for model in results.models() if (items := results.judged(model))}
    elif run is None and judge:
        found = {"": calibrate(read_judged(judge, gold, answers))}
    else:
        raise click.UsageError("give a RUN, or --judge FILE")
    position = _position(verdicts)
    if as_json:
        values = {name: {**attrs.asdict(made, recurse=False), **position} for name, made in found.items()}
        print_json(values[""] if run is None else values)
        return
    for name, made in found.items():
        _show(name, made, position)


def _position(verdicts: Path | None) -> dict[str, Metric]:
    if verdicts is None:
        return {}
    made = read_verdicts(verdicts).head_to_head()
    return {"position_bias": made.position_bias, "inconsistent": made.inconsistent}


def _show(name: str, made: Calibration, position: Mapping[str, Metric]) -> None:
    metrics = {field: value for field, value in attrs.asdict(made, recurse=False).items() if isinstance(value, Metric)}
    show(metrics_table({**metrics, **position}, name))
    say()
    total = sum(made.distribution.values())
    spread = [(f"{score:g}", f"{count:,}", f"{count / total:.0%}") for score, count in made.distribution.items()]
    show(Table(("score", "replies", "share"), spread, "Scores given"))
    if made.confusion:
        say()
        columns = sorted({score for counts in made.confusion.values() for score in counts})
        rows = [
            (f"{gold:g}", *(f"{counts.get(score, 0):,}" for score in columns))
            for gold, counts in made.confusion.items()
        ]
        show(Table(("gold", *(f"judge {score:g}" for score in columns)), rows, "Answers by the gold's score"))
    say()
