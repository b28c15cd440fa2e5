"""``tutelage report``: write the page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.cli.options import PATH, run_argument
from tutelage.cli.output import print_line, print_status
from tutelage.errors import TutelageError
from tutelage.installation import install_command
from tutelage.planning.artifacts import REPORT, SUMMARY
from tutelage.report.page import EXTRA, missing_libraries, write_report


@click.command("report")
@run_argument
@click.option("--output", metavar="FILE", type=PATH, help="File to write [default: report.html in the run].")
def command(run: Path, output: Path | None) -> None:
    """Write one page about a finished run: plots, tables, and all answers side by side.

    The page is one HTML file that needs no network. It shows plots of gains, scores and trainings, the comparisons, the
    judging, the training data, time and cost, and the answers of all models to each held-out prompt. It needs the
    libraries of the extra `report`.
    """
    print_line(str(write_report(run, output)))


def report_after_run(directory: Path) -> str:
    """Write the page at the end of a run. Returns the line that describes the result.

    The run is finished, and ends well without its page: an error, and a signal to stop, are only reported. A page that
    is newer than the summary is not written again: a repeated ``run`` of a finished run does no work.
    """
    page, summary = directory / REPORT, directory / SUMMARY
    if page.is_file() and summary.is_file() and page.stat().st_mtime_ns >= summary.stat().st_mtime_ns:
        return f"A page with plots and all answers: {page}"
    again = f"tutelage report {directory}"
    if missing_libraries():
        return f"For a page with plots and all answers: {install_command(EXTRA)}, then: {again}"
    try:
        return f"A page with plots and all answers: {write_report(directory)}"
    except KeyboardInterrupt:
        print_status("the report was not written: interrupted")
    except TutelageError as error:
        print_status(f"the report was not written: {error}")
    except Exception as error:
        print_status(f"the report was not written ({type(error).__name__}: {error}); please report this")
    return f"To write the page with plots and all answers: {again}"
