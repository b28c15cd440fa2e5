"""``tutelage run``: the whole of a recipe, from one command."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import Chosen, recipe_options
from tutelage.cli.output import say, show, tell
from tutelage.cli.progress import reporting
from tutelage.cli.results import NOTE, result_tables
from tutelage.cli.stopping import stop_on_interrupt
from tutelage.errors import Interrupted
from tutelage.execution.runner import run
from tutelage.planning.artifacts import SUMMARY
from tutelage.records import Outcome
from tutelage.results.summary import Summary
from tutelage.runs.store import Store


@click.command("run")
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print summary.json at the end, and nothing else, on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--ask-refused-again",
    is_flag=True,
    help="Ask a service again what it refused before, instead of keeping to that. Finished steps stay as they are.",
)
def command(chosen: Chosen, as_json: bool, quiet: bool, ask_refused_again: bool) -> None:
    """Run a recipe, or continue a run.

    RECIPE is a file or the name of a built-in recipe, embedded by default. A run that was stopped, by Ctrl-C, an error
    or a power cut, continues when the same command is given again.
    """
    if ask_refused_again:
        _say_what_stays_refused(chosen.directory)
    try:
        with stop_on_interrupt() as asked_to_stop, reporting(quiet) as reporter:
            summary = run(chosen.recipe, chosen.directory, chosen.registry, reporter, asked_to_stop, ask_refused_again)
    except KeyboardInterrupt:
        raise Interrupted("stopped at once; what is finished is kept, and the same command continues") from None
    if as_json:
        path = chosen.directory / SUMMARY
        say(path.read_text(encoding="utf-8").rstrip("\n") if summary else "null")
        return
    if summary:
        _show_results(summary)
    _show_next(chosen.directory, summary)


def _say_what_stays_refused(directory: Path) -> None:
    """A finished step is not opened again: later steps have learned from it."""
    steps = Store(directory).finished_steps().values()
    if refused := sum(step.counts.get(Outcome.REFUSED, 0) for step in steps):
        tell(
            f"{refused:,} refusals in finished steps of {directory} stay; a run in another folder (--run) asks them "
            "again, and takes what was answered from the ledger"
        )


def _show_results(summary: Summary) -> None:
    for table in result_tables(summary):
        say()
        show(table)
    say()
    say(NOTE)
    for warning in summary.warnings:
        say(f"warning: {warning}")


def _show_next(directory: Path, summary: Summary | None) -> None:
    say()
    say(f"The run is in {directory}" + ("; all figures are in summary.json there." if summary else "."))
    say(f"Try its last model with: tutelage chat {directory}")
