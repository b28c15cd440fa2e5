"""``tutelage run``: run all steps of a recipe, or continue a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

from tutelage.cli.options import PATH, RecipeOptions, recipe_options
from tutelage.cli.output import print_line, print_status, print_table, print_text, wrapped
from tutelage.cli.progress import Bars, reporting
from tutelage.cli.questions import confirmed
from tutelage.cli.report import report_after_run
from tutelage.cli.results import CHANCE_NOTE, NOTE, result_tables
from tutelage.cli.stopping import interrupt_immediately, stop_on_interrupt
from tutelage.errors import InputError, Interrupted
from tutelage.execution.reporter import Reporter
from tutelage.execution.runner import run
from tutelage.planning.artifacts import SUMMARY
from tutelage.records import Outcome
from tutelage.results.changes_words import changes_words, worth_words
from tutelage.results.summary import Summary
from tutelage.runs.changes import Changes
from tutelage.runs.store import Store, is_run

_LONG_SECONDS = 600
"""Duration from which replaced work is long."""


@click.command("run")
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print only summary.json on stdout, at the end.")
@click.option("--quiet", is_flag=True, help="Do not show progress.")
@click.option(
    "--ask-refused-again",
    is_flag=True,
    help="Send requests again that a service refused before. Finished steps do not change.",
)
@click.option("--yes", is_flag=True, help="Do not ask before paid or long work is replaced.")
@click.option("--cache", metavar="DIR", type=PATH, help="Folder of finished artifacts that several runs share.")
def command(
    options: RecipeOptions, as_json: bool, quiet: bool, ask_refused_again: bool, yes: bool, cache: Path | None
) -> None:
    """Run a recipe, or continue a run.

    RECIPE is a file or the name of a built-in recipe [default: embedded], or the folder of a run, which is continued.
    After Ctrl-C, SIGTERM, SIGHUP, an error or a power failure, the same command continues the run.

    With a changed recipe, the artifacts that do not depend on the change are kept. The others are set aside and made
    again; `tutelage free` deletes what was set aside.
    """
    if ask_refused_again:
        _print_remaining_refusals(options.directory)
    try:
        with reporting(quiet) as reporter, stop_on_interrupt(_lines_of(reporter)) as asked_to_stop:
            summary = run(
                options.recipe,
                options.directory,
                options.registry,
                reporter,
                asked_to_stop,
                ask_refused_again,
                approve=lambda changes: _approve(changes, yes),
                cache=cache,
            )
    except Interrupted as error:
        raise Interrupted(f"{error}\n{_continue_text(options.directory)}") from None
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped immediately; finished work is kept, and the same command continues the run\n"
            + _continue_text(options.directory)
        ) from None
    page = report_after_run(options.directory)
    if as_json:
        path = options.directory / SUMMARY
        print_line(path.read_text(encoding="utf-8").rstrip("\n") if summary else "null")
        return
    if summary:
        _print_results(summary)
    _print_next_steps(options.directory, summary, page)


def _lines_of(reporter: Reporter) -> Callable[[], int]:
    return reporter.lines if isinstance(reporter, Bars) else lambda: 0


def _approve(changes: Changes, yes: bool) -> bool:
    """Show what a changed recipe keeps and makes again; ask if paid or long work would be replaced."""
    for line in changes_words(changes):
        print_status(wrapped(line))
    is_long = changes.replaced_seconds >= _LONG_SECONDS
    if yes or not (changes.replaced_cost or is_long):
        return True
    if not sys.stdin.isatty():
        raise InputError(
            f"{changes.store.root}: the changed recipe replaces artifacts that {worth_words(changes)}; add --yes to "
            "replace them, or name another folder with --run"
        )
    try:
        with interrupt_immediately():
            return confirmed(f"Replace artifacts that {worth_words(changes)}?")
    except KeyboardInterrupt:
        return False


def _print_remaining_refusals(directory: Path) -> None:
    """Report the refusals in finished steps. They are not requested again, because later steps use the results."""
    steps = Store(directory).finished_steps().values()
    if refused := sum(step.counts.get(Outcome.REFUSED, 0) for step in steps):
        print_status(
            f"{refused:,} refusals in finished steps of {directory} are kept; a run in another folder (--run) requests "
            "them again and reuses all other answers from the ledger"
        )


def _continue_text(directory: Path) -> str:
    return (
        f"continue with: tutelage run --run {shlex.quote(str(directory))}" if is_run(directory) else "nothing was run"
    )


def _print_results(summary: Summary) -> None:
    for table in result_tables(summary):
        print_line()
        print_table(table)
    print_line()
    print_text(NOTE)
    print_text(CHANCE_NOTE)
    for warning in summary.warnings:
        print_text(f"warning: {warning}")


def _print_next_steps(directory: Path, summary: Summary | None, page: str) -> None:
    print_line()
    print_text(f"The run is in {directory}" + ("; all figures are in summary.json there." if summary else "."))
    print_text(page)
    print_line(f"Try its last model with: tutelage chat {directory}")
