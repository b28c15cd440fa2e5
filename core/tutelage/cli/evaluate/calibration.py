"""``tutelage evaluate calibration``: describe the distribution and the biases of a judge's scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.options import PATH, as_json
from tutelage.cli.output import Table, print_line, print_table
from tutelage.evaluation.calibration import Calibration, calibrate
from tutelage.evaluation.intervals import Metric
from tutelage.results.run_results import RunResults
from tutelage.results.score_files import read_judged
from tutelage.results.verdict_files import read_verdicts


@click.command("calibration")
@click.argument("run", type=PATH, required=False)
@click.option("--judge", type=PATH, help="File with the judge's scores, including every sample.")
@click.option("--gold", type=PATH, help="File with gold scores, for the confusion matrix and verbosity bias.")
@click.option("--answers", type=PATH, help="File with the answers, for statistics on their length.")
@click.option("--verdicts", type=PATH, help="File with the judge's verdicts in both orders, for position bias.")
@as_json
def calibration_command(
    run: Path | None, judge: Path | None, gold: Path | None, answers: Path | None, verdicts: Path | None, as_json: bool
) -> None:
    """Measure the score distribution and the biases of a judge.

    Reports the distribution and repeatability of its scores, length bias and position bias. Give files in the formats
    of `evaluate agreement`. Or give a RUN: each model is measured as judge of its own answers.
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
        values = {name: {**attrs.asdict(result, recurse=False), **position} for name, result in found.items()}
        print_json(values[""] if run is None else values)
        return
    for name, result in found.items():
        _show(name, result, position)


def _position(verdicts: Path | None) -> dict[str, Metric]:
    if verdicts is None:
        return {}
    result = read_verdicts(verdicts).head_to_head()
    return {"position_bias": result.position_bias, "inconsistent": result.inconsistent}


def _show(name: str, result: Calibration, position: Mapping[str, Metric]) -> None:
    metrics = {
        field: value for field, value in attrs.asdict(result, recurse=False).items() if isinstance(value, Metric)
    }
    print_table(metrics_table({**metrics, **position}, name))
    print_line()
    total = sum(result.distribution.values())
    spread = [(f"{score:g}", f"{count:,}", f"{count / total:.0%}") for score, count in result.distribution.items()]
    print_table(Table(("score", "replies", "share"), spread, "Distribution of scores"))
    if result.confusion:
        print_line()
        columns = sorted({score for counts in result.confusion.values() for score in counts})
        rows = [
            (f"{gold:g}", *(f"{counts.get(score, 0):,}" for score in columns))
            for gold, counts in result.confusion.items()
        ]
        print_table(Table(("gold", *(f"judge {score:g}" for score in columns)), rows, "Answers by gold score"))
    print_line()
