"""``tutelage evaluate head-to-head``: compare the answers of models, each pair judged in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from attrs import evolve

from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.models import split_run
from tutelage.cli.options import PATH, EvaluatorOptions, as_json, evaluator_options, rubric_option
from tutelage.cli.output import Table, print_line, print_table, print_text
from tutelage.errors import InputError
from tutelage.evaluation.head_to_head import HeadToHead
from tutelage.planning.model_checks import check_prompts
from tutelage.planning.roles import find_rubric
from tutelage.records import Sampling
from tutelage.results.selecting import SelectedModel, select_models
from tutelage.results.stored_verdicts import stored_verdicts
from tutelage.results.verdict_files import Answers, Compared, compare, is_verdicts, read_answers, read_verdicts
from tutelage.results.wording import metric_words
from tutelage.runs.durable import DurableStage
from tutelage.runs.store import is_run

EVALUATOR_METRICS = ("position_bias", "inconsistent", "winner_words", "loser_words", "longer_wins")
_MOST_PAIRS = 3
"""Number of pairs without verdicts that are named."""


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

    RUN selects all models of a run, RUN:MODEL one of them. Without --evaluator, the verdicts that the runs have stored
    are summarised, and no evaluator is called; the same applies to a verdicts.jsonl of this command. With --evaluator,
    the models and files with outputs (`instruction`, `output`, `generator`, or `prompt`, `answer`) are compared by it,
    also models of different runs; the verdicts are stored in --out.
    """
    files = [Path(source) for source in sources if not is_run(split_run(source)[0])]
    selected = select_models([split_run(source) for source in sources if is_run(split_run(source)[0])])
    verdict_files = [path for path in files if is_verdicts(path)]
    if verdict_files and len(verdict_files) < len(sources):
        raise InputError(
            "stored verdicts and outputs can't be mixed; give only files of verdicts, or only outputs and models"
        )
    unmatched = 0
    missing: tuple[tuple[str, str], ...] = ()
    if verdict_files:
        judged = tuple(judged for path in verdict_files for judged in read_verdicts(path).verdicts)
        result = Compared(judged).head_to_head()
    elif selected and not files and options.name is None:
        stored = stored_verdicts(selected, newest_left=not any(split_run(source)[1] for source in sources))
        if not stored.contests:
            raise InputError(_nothing_stored(selected))
        result, missing = stored.head_to_head(), stored.missing
    else:
        if out is None:
            raise click.UsageError("--out is required: the folder for the verdicts")
        answers = [evolve(one.results.answers(one.model), model=one.name) for one in selected]
        compared = _compare([*answers, *map(read_answers, files)], options, rubric, max_new_tokens, out)
        result, unmatched = compared.head_to_head(), compared.unmatched
    if as_json:
        print_json({**_values(result), "unmatched": unmatched, "without_verdicts": missing})
        return
    _show(result, unmatched, missing)


def _nothing_stored(selected: Sequence[SelectedModel]) -> str:
    names = ", ".join(model.name for model in selected)
    return f"no verdicts between {names} are stored; name a model that compares their answers (--evaluator, and --out)"


def _compare(
    models: Sequence[Answers], options: EvaluatorOptions, rubric: str, max_new_tokens: int, out: Path
) -> Compared:
    if len(models) < 2:
        raise click.UsageError("at least two models are required")
    evaluator = options.model()
    check_prompts(options.registry, evaluator, models[0].prompts.values())
    expected = len(models) * (len(models) - 1) * min(len(answers.texts) for answers in models)
    with options.context(str(out), "evaluate", expected, "verdicts") as context:
        asking = DurableStage(options.registry, evaluator, context)
        return compare(asking, find_rubric(rubric, options.registry), Sampling(0.0, 1.0, max_new_tokens), models, out)


def _values(result: HeadToHead) -> dict[str, object]:
    return {
        "pairs": result.pairs,
        **{name: getattr(result, name) for name in EVALUATOR_METRICS},
        "ranking": result.ranking,
    }


def _show(result: HeadToHead, unmatched: int, missing: Sequence[tuple[str, str]]) -> None:
    print_table(Table(("models", "won", "tied", "lost", "unparsed", "win rate % [95%]"), list(_pair_rows(result))))
    if result.ranking:
        print_line()
        rows = [(strength.model, metric_words(strength.strength, sign=True)) for strength in result.ranking]
        print_table(Table(("model", "strength (log-odds) [95%]"), rows, "Bradley-Terry ranking"))
    print_line()
    print_table(metrics_table({name: getattr(result, name) for name in EVALUATOR_METRICS}, "The evaluator"))
    if unmatched:
        print_line()
        print_text(f"{unmatched:,} prompts are ignored because not every model answered them")
    if missing:
        shown = ", ".join(f"{left} and {right}" for left, right in missing[:_MOST_PAIRS])
        more = f" and {len(missing) - _MOST_PAIRS:,} more pairs" if len(missing) > _MOST_PAIRS else ""
        print_line()
        print_text(f"without stored verdicts: {shown}{more}; --evaluator and --out compare them")


def _pair_rows(result: HeadToHead) -> Iterator[tuple[str, ...]]:
    for pair in result.pairs:
        counts = (f"{count:,}" for count in (pair.wins, pair.ties, pair.losses, pair.unparsed))
        yield f"{pair.left} against {pair.right}", *counts, metric_words(pair.win_rate, scale=100, decimals=1)
