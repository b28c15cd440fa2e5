"""``tutelage run``: the whole of a recipe, from one command."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import Chosen, recipe_options
from tutelage.cli.output import say, show
from tutelage.cli.progress import reporting
from tutelage.cli.results import NOTE, result_tables
from tutelage.cli.stopping import stop_on_interrupt
from tutelage.errors import Interrupted
from tutelage.runner import run
from tutelage.summary import Summary


@click.command("run")
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print summary.json at the end, and nothing else, on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(chosen: Chosen, as_json: bool, quiet: bool) -> None:
    """Run a recipe, or continue a run.

    RECIPE is a file or the name of a built-in recipe, embedded by default. A run that was stopped, by Ctrl-C, an error
    or a power cut, continues when the same command is given again.
    """
    try:
        with stop_on_interrupt() as asked_to_stop, reporting(quiet) as reporter:
            summary = run(chosen.recipe, chosen.directory, chosen.registry, reporter, asked_to_stop)
    except KeyboardInterrupt:
        raise Interrupted("stopped at once; what is finished is kept, and the same command continues") from None
    if as_json:
        path = chosen.directory / "summary.json"
        say(path.read_text(encoding="utf-8").rstrip("\n") if summary else "null")
        return
    if summary:
        _show_results(summary)
    _show_next(chosen.directory, summary)


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
