"""``tutelage data show`` and ``statistics``: what a model learned from, in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.cli.options import as_json
from tutelage.cli.output import Table, one_line, say, show, tell
from tutelage.files.jsonl import converter
from tutelage.records import Outcome
from tutelage.results.training_data import (
    DataStatistics,
    PromptData,
    ScoredCandidate,
    data_statistics,
    pair_counts,
    read_training_data,
)
from tutelage.runs.run import RunModels

SORTS: Mapping[str, Callable[[PromptData], Any]] = {
    "prompt": lambda row: row.prompt.text,
    "score": lambda row: max(row.scores, default=-1.0),
    "spread": lambda row: max(row.scores) - min(row.scores) if row.scores else -1.0,
    "words": lambda row: max((one.words for one in row.candidates), default=0),
}
BAR = 40

run_argument = click.argument("run", type=click.Path(path_type=Path))
model_argument = click.argument("model")
seed_option = click.option("--seed", type=int, help="Of this seed of the run [default: its first].")


@frozen
class Wanted:
    """Which prompts are shown."""

    text: str
    least: float | None
    most: float | None
    outcome: str | None
    paired: bool | None

    def has(self, row: PromptData) -> bool:
        """Whether a prompt is one of them; scores and outcome are those of any of its candidates."""
        texts = (row.prompt.text, *(one.candidate.text for one in row.candidates))
        return (
            any(self.text.casefold() in text.casefold() for text in texts)
            and (self.least is None or any(score >= self.least for score in row.scores))
            and (self.most is None or any(score <= self.most for score in row.scores))
            and (self.outcome is None or any(one.candidate.outcome == self.outcome for one in row.candidates))
            and (self.paired is None or bool(row.pairs) == self.paired)
        )


@click.command("show")
@run_argument
@model_argument
@seed_option
@click.option("--find", "text", default="", help="Only where the prompt or an answer contains this.")
@click.option("--min-score", "least", type=float, help="Only where an answer scored at least this.")
@click.option("--max-score", "most", type=float, help="Only where an answer scored at most this.")
@click.option("--outcome", type=click.Choice([str(one) for one in Outcome]), help="Only where an answer ended so.")
@click.option("--paired/--unpaired", default=None, help="Only prompts that gave a pair, or gave none.")
@click.option("--sort", type=click.Choice(sorted(SORTS)), help="Order of the prompts [default: as they were drawn].")
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Prompts at most.")
@as_json
def show_command(
    run: Path,
    model: str,
    seed: int | None,
    text: str,
    least: float | None,
    most: float | None,
    outcome: str | None,
    paired: bool | None,
    sort: str | None,
    reverse: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Walk the data that MODEL of RUN learned from: prompts, answers, scores, reasons and pairs.

    MODEL is named as in the run: M2/self-reward. Each answer has its score; + marks the chosen side of a pair and - the
    rejected one.
    """
    wanted = Wanted(text, least, most, outcome, paired)
    found = [row for row in read_training_data(RunModels.open(run, seed), model) if wanted.has(row)]
    if sort:
        found.sort(key=SORTS[sort])
    if reverse:
        found.reverse()
    if as_json:
        say(json.dumps(converter().unstructure(found[:limit]), indent=2, ensure_ascii=False))
        return
    for row in found[:limit]:
        for line in _lines(row):
            say(line)
        say()
    tell(f"{min(limit, len(found)):,} of {len(found):,} prompts" + (" (--limit)" if len(found) > limit else ""))


@click.command("statistics")
@run_argument
@model_argument
@seed_option
@as_json
def statistics_command(run: Path, model: str, seed: int | None, as_json: bool) -> None:
    """Show scores, lengths, duplicates and the share of prompts that gave a pair."""
    models = RunModels.open(run, seed)
    found = data_statistics(read_training_data(models, model), pair_counts(models, model))
    if as_json:
        say(json.dumps(converter().unstructure(found), indent=2))
        return
    show(_figures(found))
    if found.scores:
        say()
        show(_histogram(found))
    if found.dropped:
        say()
        show(Table(("pairs, and why there are no more", "count"), [(k, f"{n:,}") for k, n in found.dropped.items()]))


def _lines(row: PromptData) -> Iterator[str]:
    """One prompt as lines of text. What a model wrote is indented, so that it cannot pass for a line of ours."""
    yield f"prompt {row.prompt.id}  from {one_line(row.prompt.source) or 'unknown'}"
    yield _indented(row.prompt.text)
    sides = {pair.chosen_id: "+" for pair in row.pairs} | {pair.rejected_id: "-" for pair in row.pairs}
    if row.demonstration:
        mark = "+" if row.pairs else " "
        yield f"{mark} demonstration  {row.demonstration.outcome}"
        yield _indented(row.demonstration.text)
    for one in row.candidates:
        yield f"{sides.get(one.candidate.id, ' ')} answer {one.candidate.index}  {_score_words(one)}"
        yield _indented(one.candidate.text)
        for reason in one.reasons:
            if reason:
                yield _indented(f"because: {reason}")


def _score_words(one: ScoredCandidate) -> str:
    score = "no score" if one.score is None else f"score {one.score:.2f}"
    ended = "" if one.candidate.outcome is Outcome.ANSWERED else f", {one.candidate.outcome}"
    return f"{score}, {one.words} words{ended}"


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines() or ["(empty)"])


def _figures(found: DataStatistics) -> Table:
    words = "-" if found.words is None else " / ".join(f"{value:g}" for value in found.words)
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in found.outcomes.items())
    rows = [
        ("prompts", f"{found.prompts:,}"),
        ("that gave a pair", _share(found.prompts_with_a_pair, found.prompts)),
        ("that repeat an earlier one", _share(found.repeated_prompts, found.prompts)),
        ("answers", f"{found.candidates:,} ({outcomes})"),
        ("that another answer to the prompt equals", _share(found.repeated_candidates, found.candidates)),
        ("without a score", _share(found.unscored, found.candidates)),
        ("words: least / median / most", words),
        ("pairs", f"{found.pairs:,}"),
        ("mean difference of scores", "-" if found.margin is None else f"{found.margin:.2f}"),
        ("chosen side longer", "-" if found.chosen_longer is None else f"{found.chosen_longer:.0%}"),
    ]
    return Table(("what", "figure"), rows)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else "0"


def _histogram(found: DataStatistics) -> Table:
    most = max(found.scores.values())
    rows: Sequence[tuple[str, str, str]] = [
        (str(score), f"{count:,}", "#" * max(1, round(BAR * count / most))) for score, count in found.scores.items()
    ]
    return Table(("score", "answers", "share"), rows, left=frozenset({"share"}))
