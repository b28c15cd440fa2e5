"""``tutelage data show`` and ``statistics``: inspect the training data of a model in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from tutelage.cli.options import as_json, model_argument, run_argument, seed_option
from tutelage.cli.output import Table, one_line, print_line, print_status, print_table
from tutelage.files.jsonl import converter
from tutelage.records import Outcome
from tutelage.results.training_data import (
    DataStatistics,
    PromptData,
    ScoredCandidate,
    data_statistics,
    missing_data,
    pair_counts,
    read_training_data,
)
from tutelage.runs.run import RunModels

SORTS: Mapping[str, Callable[[PromptData], Any]] = {
    "prompt": lambda row: row.prompt.text,
    "score": lambda row: max(row.scores, default=-1.0),
    "spread": lambda row: max(row.scores) - min(row.scores) if row.scores else -1.0,
    "words": lambda row: max((candidate.words for candidate in row.candidates), default=0),
}
BAR = 40
"""Width of the longest bar of the histogram, in characters."""


@frozen
class PromptFilter:
    """Conditions on the prompts that are shown. None, or an empty text, is no condition."""

    text: str
    min_score: float | None
    max_score: float | None
    outcome: str | None
    paired: bool | None

    def matches(self, row: PromptData) -> bool:
        """Whether a prompt meets all conditions. Those on scores and outcome hold if any candidate meets them."""
        texts = (row.prompt.text, *(scored.candidate.text for scored in row.candidates))
        return (
            any(self.text.casefold() in text.casefold() for text in texts)
            and (self.min_score is None or any(score >= self.min_score for score in row.scores))
            and (self.max_score is None or any(score <= self.max_score for score in row.scores))
            and (self.outcome is None or any(scored.candidate.outcome == self.outcome for scored in row.candidates))
            and (self.paired is None or bool(row.pairs) == self.paired)
        )


@click.command("show")
@run_argument
@model_argument
@seed_option
@click.option("--find", "text", default="", help="Only prompts that contain this text, in the prompt or an answer.")
@click.option("--min-score", type=float, help="Only prompts with an answer that scored at least this.")
@click.option("--max-score", type=float, help="Only prompts with an answer that scored at most this.")
@click.option(
    "--outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Only prompts with such an answer."
)
@click.option("--paired/--unpaired", default=None, help="Only prompts with a preference pair, or without one.")
@click.option(
    "--sort", type=click.Choice(sorted(SORTS)), help="Sort the prompts by this key [default: the order of the run]."
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of prompts.")
@as_json
def show_command(
    run: Path,
    model: str,
    seed: int | None,
    text: str,
    min_score: float | None,
    max_score: float | None,
    outcome: str | None,
    paired: bool | None,
    sort: str | None,
    reverse: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show the prompts, answers, scores and pairs or labels that MODEL was trained on.

    MODEL is the model's name in the run, such as M2/self-reward. Each answer is shown with its score; + marks the
    chosen side of a pair or a desirable answer, and - the rejected side or an undesirable answer. Of an unfinished run,
    or of one that ended because no pair was left, the answers and scores are shown that have been made so far.
    """
    prompt_filter = PromptFilter(text, min_score, max_score, outcome, paired)
    models = RunModels.open(run, seed)
    found = [row for row in read_training_data(models, model) if prompt_filter.matches(row)]
    if sort:
        found.sort(key=SORTS[sort])
    if reverse:
        found.reverse()
    if as_json:
        print_line(json.dumps(converter().unstructure(found[:limit]), indent=2, ensure_ascii=False))
        return
    for row in found[:limit]:
        for line in _lines(row):
            print_line(line)
        print_line()
    print_status(f"{min(limit, len(found)):,} of {len(found):,} prompts" + (" (--limit)" if len(found) > limit else ""))
    for path in missing_data(models, model):
        print_status(f"not finished yet: {models.store.path(path)}")


@click.command("statistics")
@run_argument
@model_argument
@seed_option
@as_json
def statistics_command(run: Path, model: str, seed: int | None, as_json: bool) -> None:
    """Show scores, lengths, duplicates and the share of prompts with a preference pair."""
    models = RunModels.open(run, seed)
    found = data_statistics(read_training_data(models, model), pair_counts(models, model))
    if as_json:
        print_line(json.dumps(converter().unstructure(found), indent=2))
        return
    print_table(_figures(found))
    if found.scores:
        print_line()
        print_table(_histogram(found))
    if found.dropped:
        print_line()
        print_table(
            Table(
                ("pairs, and dropped by reason", "count"),
                [(k, f"{n:,}") for k, n in found.dropped.items()],
            )
        )


def _lines(row: PromptData) -> Iterator[str]:
    """One prompt as lines of text. Model output is indented, so that it cannot imitate a line of this command."""
    yield f"prompt {row.prompt.id}  from {one_line(row.prompt.source) or 'unknown'}"
    yield _indented(row.prompt.text)
    sides = {pair.chosen_id: "+" for pair in row.pairs} | {pair.rejected_id: "-" for pair in row.pairs}
    if row.demonstration:
        mark = "+" if row.pairs else " "
        yield f"{mark} demonstration  {row.demonstration.outcome}"
        yield _indented(row.demonstration.text)
    sides |= {id: "+" if desirable else "-" for id, desirable in row.labels.items()}
    for scored in row.candidates:
        yield f"{sides.get(scored.candidate.id, ' ')} answer {scored.candidate.index}  {_score_text(scored)}"
        yield _indented(scored.candidate.text)
        for reason in scored.reasons:
            if reason:
                yield _indented(f"because: {reason}")


def _score_text(scored: ScoredCandidate) -> str:
    score = "no score" if scored.score is None else f"score {scored.score:.2f}"
    outcome = "" if scored.candidate.outcome is Outcome.ANSWERED else f", {scored.candidate.outcome}"
    return f"{score}, {scored.words} words{outcome}"


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines() or ["(empty)"])


def _figures(found: DataStatistics) -> Table:
    words = "-" if found.words is None else " / ".join(f"{value:g}" for value in found.words)
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in found.outcomes.items())
    rows = [
        ("prompts", f"{found.prompts:,}"),
        ("prompts with a pair", _share(found.prompts_with_a_pair, found.prompts)),
        ("repeated prompts", _share(found.repeated_prompts, found.prompts)),
        ("answers", f"{found.candidates:,} ({outcomes})"),
        ("answers equal to another answer", _share(found.repeated_candidates, found.candidates)),
        ("answers without a score", _share(found.unscored, found.candidates)),
        ("words per answer: min / median / max", words),
        ("pairs", f"{found.pairs:,}"),
        ("mean score difference", "-" if found.margin is None else f"{found.margin:.2f}"),
        ("pairs with the longer side chosen", "-" if found.chosen_longer is None else f"{found.chosen_longer:.0%}"),
    ]
    return Table(("statistic", "value"), rows)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else "0"


def _histogram(found: DataStatistics) -> Table:
    highest = max(found.scores.values())
    rows: Sequence[tuple[str, str, str]] = [
        (str(score), f"{count:,}", "#" * max(1, round(BAR * count / highest))) for score, count in found.scores.items()
    ]
    return Table(("score", "answers", "share"), rows, left=frozenset({"share"}))
