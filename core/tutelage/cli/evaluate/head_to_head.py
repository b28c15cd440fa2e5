"""``tutelage evaluate head-to-head``: which model's answers are better, each pair judged in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from attrs import evolve

from tutelage.cli.evaluate.options import PATH, Evaluator, evaluator_options
from tutelage.cli.evaluate.printing import metrics_table, print_json
from tutelage.cli.models import split_run
from tutelage.cli.options import as_json
from tutelage.cli.output import Table, say, show
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
@click.option("--rubric", default="pairwise", show_default=True, help="Built in, or offered by a plugin.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Of a reply.")
@click.option("--out", type=PATH, help="Where the verdicts are kept; the same command continues there.")
@evaluator_options
@as_json
def head_to_head_command(
    sources: Sequence[str], rubric: str, max_new_tokens: int, out: Path | None, asked: Evaluator, as_json: bool
) -> None:
    """Compare models, each pair of answers in both orders.

    A RUN, or a verdicts.jsonl of this command, is summarised from its stored verdicts: nothing is asked. Files of
    outputs (`instruction`, `output`, `generator`, or `prompt`, `answer`) and RUN:MODEL are compared by --evaluator, and
    the verdicts kept in --out.
    """
    stored = [_is_stored(source) for source in sources]
    if all(stored):
        made, unmatched = _from_stored([Path(source) for source in sources]), 0
    elif any(stored):
        raise InputError("stored verdicts and outputs can't be mixed; name a model of a run as RUN:MODEL")
    else:
        if out is None:
            raise click.UsageError("--out is needed: where are the verdicts kept?")
        models = _named_apart([(split_run(source)[0], _answers(source)) for source in sources])
        compared = _ask(models, asked, rubric, max_new_tokens, out)
        made, unmatched = compared.head_to_head(), compared.unmatched
    if as_json:
        print_json({**_values(made), "unmatched": unmatched})
        return
    _show(made, unmatched)


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
        raise InputError("a run and a file of verdicts can't be summarised together; give either")
    return head_to_head_of_runs(runs)


def _answers(source: str) -> Answers:
    folder, model = split_run(source)
    return RunResults.open(folder).answers(model) if model else read_answers(Path(source))


def _named_apart(models: Sequence[tuple[Path, Answers]]) -> list[Answers]:
    """Models of several runs carry the run's name, where they would have one name otherwise."""
    names = [answers.model for _, answers in models]
    if len(set(names)) == len(names):
        return [answers for _, answers in models]
    return [evolve(answers, model=f"{folder.name}:{answers.model}") for folder, answers in models]


def _ask(models: Sequence[Answers], asked: Evaluator, rubric: str, max_new_tokens: int, out: Path) -> Compared:
    if len(models) < 2:
        raise click.UsageError("give two models at least")
    evaluator = asked.model()
    expected = len(models) * (len(models) - 1) * min(len(answers.texts) for answers in models)
    with asked.context(str(out), "evaluate", expected) as context:
        asking = DurableStage(asked.registry, evaluator, context)
        return compare(asking, find_rubric(rubric, asked.registry), Sampling(0.0, 1.0, max_new_tokens), models, out)


def _values(made: HeadToHead) -> dict[str, object]:
    return {
        "pairs": made.pairs,
        **{name: getattr(made, name) for name in EVALUATOR_METRICS},
        "ranking": made.ranking,
    }


def _show(made: HeadToHead, unmatched: int) -> None:
    show(Table(("models", "won", "tied", "lost", "unparsed", "win rate % [95%]"), list(_pair_rows(made))))
    if made.ranking:
        say()
        rows = [(strength.model, metric_words(strength.strength, sign=True)) for strength in made.ranking]
        show(Table(("model", "strength (log-odds) [95%]"), rows, "Bradley-Terry ranking"))
    say()
    show(metrics_table({name: getattr(made, name) for name in EVALUATOR_METRICS}, "The evaluator"))
    if unmatched:
        say(f"\n{unmatched:,} prompts are left out: not every model answered them")


def _pair_rows(made: HeadToHead) -> Iterator[tuple[str, ...]]:
    for pair in made.pairs:
        counts = (f"{count:,}" for count in (pair.wins, pair.ties, pair.losses, pair.unparsed))
        yield f"{pair.left} against {pair.right}", *counts, metric_words(pair.win_rate, scale=100, decimals=1)
