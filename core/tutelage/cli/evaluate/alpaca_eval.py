"""``tutelage evaluate alpaca-eval``: AlpacaEval 2.0, whole or from stored annotations."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from tutelage.alpaca_eval.results import AlpacaEvalResult, results, write_leaderboard
from tutelage.cli.evaluate.options import PATH, Evaluator, evaluator_options
from tutelage.cli.evaluate.printing import print_json
from tutelage.cli.models import find_model
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, say, show, tell
from tutelage.errors import InputError
from tutelage.evaluation.length_control import ANNOTATOR
from tutelage.records import Sampling
from tutelage.results.alpaca_eval_files import Output, read_annotations, read_outputs
from tutelage.runs.durable import DurableStage


@attrs.frozen
class Whole:
    """What the options of a whole run say."""

    outputs: str
    """A file of outputs, or the model that is to write them."""
    reference: tuple[Output, ...]
    annotator: str
    out: Path
    name: str
    sampling: Sampling


@click.command("alpaca-eval")
@click.argument("outputs", required=False)
@click.option("--annotations", type=PATH, help="Stored annotations: nothing is asked.")
@click.option("--reference", type=PATH, help="The baseline's outputs; its instructions are the benchmark.")
@click.option("--tables", type=PATH, help="Folder with the tables of length control.")
@click.option("--annotator", default=ANNOTATOR, show_default=True, help="Template and tokens, by the library's name.")
@click.option("--out", type=PATH, help="Where everything is kept; the same command continues there.")
@click.option("--name", help="The generator's name [default: the model as it was given].")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Of the answers.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Of an answer.")
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
    asked: Evaluator,
    as_json: bool,
) -> None:
    """Measure a model on AlpacaEval 2.0.

    OUTPUTS is a model_outputs.json, or a model (RUN:MODEL, PLUGIN[:NAME]) that is to answer the instructions of
    --reference. The evaluator is openai with the annotator's own model, unless --evaluator names another.
    """
    known = tuple(read_outputs(reference)) if reference else ()
    if annotations is not None and outputs is None:
        result = results(read_annotations(annotations), tables, known)
    elif outputs is not None and annotations is None and known and out is not None:
        sampling = Sampling(temperature, 1.0, max_new_tokens)
        result = _whole(Whole(outputs, known, annotator, out, name or outputs, sampling), tables, asked)
    else:
        raise click.UsageError("give OUTPUTS with --reference FILE and --out DIR, or --annotations FILE")
    if as_json:
        print_json(result)
    else:
        _show(result)


def _whole(run: Whole, tables: Path | None, asked: Evaluator) -> AlpacaEvalResult:
    from tutelage.alpaca_eval.library import load_annotator
    from tutelage.alpaca_eval.running import ANNOTATIONS, annotate, check_evaluator

    annotator = load_annotator(run.annotator)
    evaluator = asked.model(f"{annotator.provider}:{annotator.model}")
    check_evaluator(asked.registry, evaluator, annotator)
    outputs = _outputs(run, asked)
    with asked.context(str(run.out), "evaluate", len(outputs)) as context:
        asking = DurableStage(asked.registry, evaluator, context)
        annotate(asking, annotator, outputs, run.reference, run.out)
    instructions = {output.instruction for output in run.reference}
    missing = len(instructions - {output.instruction for output in outputs})
    foreign = sum(output.instruction not in instructions for output in outputs)
    if missing or foreign:
        tell(f"{missing:,} instructions have no output; {foreign:,} outputs are of no instruction of the reference")
    result = results(read_annotations(run.out / ANNOTATIONS), tables, run.reference)
    write_leaderboard(run.out / "leaderboard.csv", result)
    return result


def _outputs(run: Whole, asked: Evaluator) -> list[Output]:
    from tutelage.alpaca_eval.running import answer

    if Path(run.outputs).is_file():
        return read_outputs(Path(run.outputs))
    if Path(run.outputs).suffix == ".json":
        raise InputError(f"{run.outputs}: no such file")
    model = find_model(run.outputs, asked.registry)
    with asked.context(str(run.out), "answers", len(run.reference)) as context:
        asking = DurableStage(asked.registry, model, context)
        return answer(asking, run.name, run.reference, run.sampling, run.out)


def _show(result: AlpacaEvalResult) -> None:
    rows = [
        ("win rate %", _rate(result.win_rate)),
        ("95% interval", f"{_rate(result.low)} to {_rate(result.high)}"),
        ("standard error", _rate(result.standard_error)),
        ("discrete win rate %", _rate(result.discrete_win_rate)),
        ("length-controlled win rate %", _rate(result.length_controlled_winrate)),
        ("length-controlled, own difficulty %", _rate(result.length_controlled_by_instruction)),
        ("won / tied / lost", f"{result.n_wins}/{result.n_draws}/{result.n_wins_base}"),
        ("annotations", f"{result.n_total:,}"),
        ("unparsed", f"{result.unparsed:,}"),
        ("mean length in characters", "-" if result.avg_length is None else f"{result.avg_length:,}"),
    ]
    show(Table(("measure", "value"), rows, f"{result.model} against {result.baseline}, by {result.annotator}"))
    if result.length_controlled_note:
        say(f"\nlength control: {result.length_controlled_note}")


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
