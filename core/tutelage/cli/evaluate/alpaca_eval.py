"""``tutelage evaluate alpaca-eval``: AlpacaEval 2.0, run completely or computed from stored annotations."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from tutelage.alpaca_eval.results import AlpacaEvalResult, results, write_leaderboard
from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.models import find_model
from tutelage.cli.options import PATH, EvaluatorOptions, as_json, evaluator_options
from tutelage.cli.output import Table, print_status, print_table, print_text
from tutelage.errors import InputError
from tutelage.evaluation.length_control import ANNOTATOR
from tutelage.records import Sampling
from tutelage.results.alpaca_eval_files import Output, read_annotations, read_outputs
from tutelage.results.wording import CANNOT_TELL
from tutelage.runs.durable import DurableStage


@attrs.frozen
class BenchmarkOptions:
    """The options of a complete run of the benchmark."""

    outputs: str
    """A file with outputs, or the name of the model that generates them."""
    reference: tuple[Output, ...]
    """The outputs of the baseline."""
    annotator: str
    """Name of the annotator configuration in the alpaca_eval library."""
    out: Path
    """The folder for all output."""
    name: str
    """Name of the generator in the results."""
    sampling: Sampling


@click.command("alpaca-eval")
@click.argument("outputs", required=False)
@click.option("--annotations", type=PATH, help="File with stored annotations; the evaluator is not called.")
@click.option("--reference", type=PATH, help="File with the baseline's outputs, one per instruction.")
@click.option("--tables", type=PATH, help="Folder with the tables for the length-controlled win rate.")
@click.option("--annotator", default=ANNOTATOR, show_default=True, help="Annotator configuration of alpaca_eval.")
@click.option("--out", type=PATH, help="Folder for all output; the same command continues in it.")
@click.option("--name", help="Name of the generator in the results [default: OUTPUTS].")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Sampling temperature of the answers; 0 is greedy.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Maximum length of an answer in tokens.",
)
@evaluator_options
@as_json
def alpaca_eval_command(
    outputs: str | None,
    annotations: Path | None,
    reference: Path | None,
    tables: Path | None,
    annotator: str,
    out: Path | None,
    name: str | None,
    temperature: float,
    max_new_tokens: int,
    options: EvaluatorOptions,
    as_json: bool,
) -> None:
    """Measure a model on AlpacaEval 2.0.

    OUTPUTS is a model_outputs.json, or a model (RUN:MODEL, PLUGIN[:NAME]) that answers the instructions of
    --reference. The default evaluator is the model of the annotator configuration.
    """
    known = tuple(read_outputs(reference)) if reference else ()
    if annotations is not None and outputs is None:
        result = results(read_annotations(annotations), tables, known)
    elif outputs is not None and annotations is None and known and out is not None:
        sampling = Sampling(temperature, 1.0, max_new_tokens)
        result = _run(BenchmarkOptions(outputs, known, annotator, out, name or outputs, sampling), tables, options)
    else:
        raise click.UsageError("give OUTPUTS with --reference FILE and --out DIR, or --annotations FILE")
    if as_json:
        print_json(result)
    else:
        _show(result)


def _run(run: BenchmarkOptions, tables: Path | None, options: EvaluatorOptions) -> AlpacaEvalResult:
    from tutelage.alpaca_eval.library import load_annotator
    from tutelage.alpaca_eval.running import ANNOTATIONS, annotate, check_evaluator

    annotator = load_annotator(run.annotator)
    evaluator = options.model(f"{annotator.provider}:{annotator.model}")
    check_evaluator(options.registry, evaluator, annotator)
    outputs = _outputs(run, options)
    with options.context(str(run.out), "evaluate", len(outputs), "annotations") as context:
        asking = DurableStage(options.registry, evaluator, context)
        annotate(asking, annotator, outputs, run.reference, run.out)
    instructions = {output.instruction for output in run.reference}
    missing = len(instructions - {output.instruction for output in outputs})
    unknown = sum(output.instruction not in instructions for output in outputs)
    if missing or unknown:
        print_status(
            f"{missing:,} instructions have no output; {unknown:,} outputs have an instruction not in the reference"
        )
    result = results(read_annotations(run.out / ANNOTATIONS), tables, run.reference, outputs)
    write_leaderboard(run.out / "leaderboard.csv", result)
    return result


def _outputs(run: BenchmarkOptions, options: EvaluatorOptions) -> list[Output]:
    from tutelage.alpaca_eval.running import answer

    if Path(run.outputs).is_file():
        return read_outputs(Path(run.outputs))
    if Path(run.outputs).suffix == ".json":
        raise InputError(f"{run.outputs}: no such file")
    model = find_model(run.outputs, options.registry)
    with options.context(str(run.out), "answers", len(run.reference), "answers") as context:
        asking = DurableStage(options.registry, model, context)
        return answer(asking, run.name, run.reference, run.sampling, run.out)


def _show(result: AlpacaEvalResult) -> None:
    rows = [
        ("win rate %", _rate(result.win_rate)),
        ("95% interval", CANNOT_TELL if result.low is None else f"{_rate(result.low)} to {_rate(result.high)}"),
        ("standard error", _rate(result.standard_error)),
        ("discrete win rate %", _rate(result.discrete_win_rate)),
        ("length-controlled win rate %", _rate(result.length_controlled_winrate)),
        ("length-controlled, own difficulty %", _rate(result.length_controlled_by_instruction)),
        ("won / tied / lost", f"{result.n_wins}/{result.n_draws}/{result.n_wins_base}"),
        ("annotations", f"{result.n_total:,}"),
        ("unparsed", f"{result.unparsed:,}"),
        ("mean length in characters", "-" if result.avg_length is None else f"{result.avg_length:,}"),
    ]
    print_table(Table(("measure", "value"), rows, f"{result.model} against {result.baseline}, by {result.annotator}"))
    if result.length_controlled_note:
        print_text(f"\nlength control: {result.length_controlled_note}")


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
