"""Results of one model on AlpacaEval 2.0, for the command line and in the format of the leaderboard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tutelage.evaluation.alpaca_eval import Annotation, win_rates
from tutelage.evaluation.length_control import LengthControlled, from_published_weights
from tutelage.files.whole import write_whole
from tutelage.results.alpaca_eval_files import Output, read_tables


@frozen
class AlpacaEvalResult:
    """The results of a model on AlpacaEval 2.0; rates are in percent.

    The other fields are described in ``evaluation.alpaca_eval.WinRates`` and
    ``evaluation.length_control.LengthControlled``.
    """

    model: str
    baseline: str
    annotator: str
    win_rate: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    discrete_win_rate: float | None
    length_controlled_winrate: float | None
    lc_standard_error: float | None
    length_controlled_by_instruction: float | None
    length_controlled_note: str
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    unparsed: int
    avg_length: int | None
    """Mean length of the model's outputs in characters, rounded down as on the leaderboard."""


LEADERBOARD_COLUMNS = (
    "win_rate",
    "standard_error",
    "n_wins",
    "n_wins_base",
    "n_draws",
    "n_total",
    "discrete_win_rate",
    "mode",
    "avg_length",
    "length_controlled_winrate",
    "lc_standard_error",
)


def results(
    annotations: Sequence[Annotation],
    tables: Path | None = None,
    reference: Sequence[Output] = (),
    outputs: Sequence[Output] = (),
) -> AlpacaEvalResult:
    """Compute all results of one model.

    ``annotations`` are in the order of their file. ``tables`` is the folder with the tables of length control; without
    it, there is no length-controlled win rate. ``reference`` has the baseline's outputs in the order of the benchmark.
    ``outputs`` has all outputs of the model, for their mean length. Without them, an instruction of ``reference`` that
    has no annotation counts as an empty output: the library does not annotate those, and the leaderboard's mean length
    includes them.

    Raises ``InputError`` if the annotations or the tables are invalid (see ``win_rates`` and ``read_tables``).
    """
    rates = win_rates(annotations)
    controlled = _length_controlled(annotations, tables, reference)
    one = annotations[0] if annotations else Annotation("", "", "", None)
    return AlpacaEvalResult(
        model=one.generator_2,
        baseline=one.generator_1,
        annotator=one.annotator,
        win_rate=rates.win_rate,
        low=rates.low,
        high=rates.high,
        standard_error=rates.standard_error,
        discrete_win_rate=rates.discrete_win_rate,
        length_controlled_winrate=controlled.win_rate,
        lc_standard_error=controlled.standard_error,
        length_controlled_by_instruction=controlled.by_instruction,
        length_controlled_note=controlled.note,
        n_wins=rates.n_wins,
        n_wins_base=rates.n_wins_base,
        n_draws=rates.n_draws,
        n_total=rates.n_total,
        unparsed=rates.unparsed,
        avg_length=_mean_length(annotations, reference, outputs),
    )


def write_leaderboard(path: Path, result: AlpacaEvalResult) -> None:
    """Write a file with one row in the format of the library's ``leaderboard.csv``."""
    values = {column: getattr(result, column, "community") for column in LEADERBOARD_COLUMNS}

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["", *LEADERBOARD_COLUMNS])
            table.writeheader()
            table.writerow({"": result.model, **values})

    write_whole(path, write)


def _mean_length(
    annotations: Sequence[Annotation], reference: Sequence[Output], outputs: Sequence[Output]
) -> int | None:
    lengths = [len(one.output) for one in outputs] or [len(one.output_2) for one in annotations]
    number = len(lengths) if outputs else max(len(lengths), len(reference))
    return int(sum(lengths) / number) if number else None


def _length_controlled(
    annotations: Sequence[Annotation], tables: Path | None, reference: Sequence[Output]
) -> LengthControlled:
    if tables is None:
        return LengthControlled(note="no tables of length control were given (--tables)")
    published = read_tables(tables)
    number = {output.instruction: position for position, output in enumerate(reference)}
    known = len(reference) == len(published.difficulty) and all(one.instruction in number for one in annotations)
    positions = [number[one.instruction] for one in annotations] if known else None
    controlled = from_published_weights(annotations, published, positions)
    if controlled.win_rate is None and annotations:
        return _fitted(annotations, tables, controlled.note)
    return controlled


def _fitted(annotations: Sequence[Annotation], tables: Path, problem: str) -> LengthControlled:
    """Fit the win rate; ``problem`` is the reason why the published weights do not apply."""
    from tutelage.alpaca_eval.library import GAMED, fit

    if not (tables / GAMED).is_file():
        return LengthControlled(note=f"{problem}; to fit a new model, {GAMED} is needed beside the tables")
    return fit(annotations, tables)
