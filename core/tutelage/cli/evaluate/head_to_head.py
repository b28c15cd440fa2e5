"""``tutelage evaluate head-to-head``: compare the answers of models, each pair judged in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from attrs import evolve

from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.models import split_run
from tutelage.cli.options import PATH, EvaluatorOptions, as_json, evaluator_options, rubric_option
from tutelage.cli.output import Table, print_line, print_table
from tutelage.errors import InputError
from tutelage.evaluation.head_to_head import HeadToHead
from tutelage.planning.roles import find_rubric
from tutelage.records import Sampling
from tutelage.results.run_results import RunResults, head_to_head_of_runs
from tutelage.results.verdict_files import Answers, Compared, compare, is_verdicts, read_answers, read_verdicts
from tutelage.results.wording import metric_words
from tutelage.runs.durable import DurableStage
from tutelage.runs.store import is_run

EVALUATOR_METRICS = ("position_bias", "inconsistent", "winner_words", "loser_words", "longer_wins")


@click.command("head-to-head")
@click.argument("sources", metavar="RUN_OR_OUTPUTS...", nargs=-1, required=True)
@rubric_option("pairwise")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Maximum length of a reply in tokens.",
)
@click.option("--out", type=PATH, help="Folder for the verdicts; the same command continues in it.")
@evaluator_options
@as_json
def head_to_head_command(
    sources: Sequence[str], rubric: str, max_new_tokens: int, out: Path | None, options: EvaluatorOptions, as_json: bool
) -> None:
    """Compare the answers of models, each pair in both orders.

    For a RUN or a verdicts.jsonl of this command, the stored verdicts are summarised and no evaluator is called. Files
    with outputs (`instruction`, `output`, `generator`, or `prompt`, `answer`) and RUN:MODEL are compared by
    --evaluator; the verdicts are stored in --out.
    """
    stored = [_is_stored(source) for source in sources]
    if all(stored):
        result, unmatched = _from_stored([Path(source) for source in sources]), 0
    elif any(stored):
        raise InputError("stored verdicts and outputs can't be mixed; write a model of a run as RUN:MODEL")
    else:
        if out is None:
            raise click.UsageError("--out is required: the folder for the verdicts")
        models = _with_unique_names([(split_run(source)[0], _answers(source)) for source in sources])
        compared = _compare(models, options, rubric, max_new_tokens, out)
        result, unmatched = compared.head_to_head(), compared.unmatched
    if as_json:
        print_json({**_values(result), "unmatched": unmatched})
        return
    _show(result, unmatched)


def _is_stored(source: str) -> bool:
    folder, model = split_run(source)
    if is_run(folder):
        return not model
    return is_verdicts(Path(source))


def _from_stored(paths: Sequence[Path]) -> HeadToHead:
    runs = [RunResults.open(path) for path in paths if is_run(path)]
    if not runs:
        return Compared(tuple(judged for path in paths for judged in read_verdicts(path).verdicts)).head_to_head()
    if len(runs) < len(paths):
        raise InputError("a run and a file of verdicts can't be summarised together; give only one of them")
    return head_to_head_of_runs(runs)


def _answers(source: str) -> Answers:
    folder, model = split_run(source)
    return RunResults.open(folder).answers(model) if model else read_answers(Path(source))


def _with_unique_names(models: Sequence[tuple[Path, Answers]]) -> list[Answers]:
    """The models; if two have the same name, all get the name of their run as a prefix."""
    names = [answers.model for _, answers in models]
    if len(set(names)) == len(names):
        return [answers for _, answers in models]
    return [evolve(answers, model=f"{folder.name}:{answers.model}") for folder, answers in models]


def _compare(
    models: Sequence[Answers], options: EvaluatorOptions, rubric: str, max_new_tokens: int, out: Path
) -> Compared:
    if len(models) < 2:
        raise click.UsageError("at least two models are required")
    evaluator = options.model()
    expected = len(models) * (len(models) - 1) * min(len(answers.texts) for answers in models)
    with options.context(str(out), "evaluate", expected) as context:
        asking = DurableStage(options.registry, evaluator, context)
        return compare(asking, find_rubric(rubric, options.registry), Sampling(0.0, 1.0, max_new_tokens), models, out)


def _values(result: HeadToHead) -> dict[str, object]:
    return {
        "pairs": result.pairs,
        **{name: getattr(result, name) for name in EVALUATOR_METRICS},
        "ranking": result.ranking,
    }


def _show(result: HeadToHead, unmatched: int) -> None:
    print_table(Table(("models", "won", "tied", "lost", "unparsed", "win rate % [95%]"), list(_pair_rows(result))))
    if result.ranking:
        print_line()
        rows = [(strength.model, metric_words(strength.strength, sign=True)) for strength in result.ranking]
        print_table(Table(("model", "strength (log-odds) [95%]"), rows, "Bradley-Terry ranking"))
    print_line()
    print_table(metrics_table({name: getattr(result, name) for name in EVALUATOR_METRICS}, "The evaluator"))
    if unmatched:
        print_line(f"\n{unmatched:,} prompts are ignored because not every model answered them")


def _pair_rows(result: HeadToHead) -> Iterator[tuple[str, ...]]:
    for pair in result.pairs:
        counts = (f"{count:,}" for count in (pair.wins, pair.ties, pair.losses, pair.unparsed))
        yield f"{pair.left} against {pair.right}", *counts, metric_words(pair.win_rate, scale=100, decimals=1)
