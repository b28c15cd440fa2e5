"""``tutelage watch``: show the progress of a run in another terminal until the run ends. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tutelage.cli.options import run_argument
from tutelage.cli.output import one_line, printable
from tutelage.cli.status import left_text, next_step_text, spent_text
from tutelage.planning.steps import Train
from tutelage.results.wording import counts_words, figure_word, seconds_words, title, training_figures
from tutelage.runs.status import CurrentStep, RunStatus, run_status

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 16
_CURVE = 40
_LEVELS = "▁▂▃▄▅▆▇█"
_FINISHED = 5
"""Number of finished steps that are listed."""


@click.command("watch")
@run_argument
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds between two refreshes."
)
def command(run: Path, every: float) -> None:
    """Show the progress of a run until it ends, in another terminal.

    Shows the current step, the curves of a training, the counts of the last finished steps, and the time and cost so
    far and left. Ctrl-C ends the command, not the run. Without a terminal, or if no process works on the run, the
    progress is printed once.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    status = run_status(run)
    if console.is_terminal and status.process is not None:
        try:
            with Live(_shown(status), console=console, auto_refresh=False, transient=True) as live:
                while status.process is not None:
                    time.sleep(every)
                    status = run_status(run)
                    live.update(_shown(status), refresh=True)
        except KeyboardInterrupt:
            return
    console.print(_shown(status), soft_wrap=not console.is_terminal)


def _shown(status: RunStatus) -> RenderableType:
    """Return the progress of a run, or that of the variant that a process is working on, below its counts."""
    from rich.console import Group
    from rich.text import Text

    active = next((variant for variant in status.variants if variant.process is not None), status)
    lines = [_heading(status)]
    if active is not status:
        lines.append(f"variant {active.root.name}: {active.count('done')} of {len(active.steps)} steps done")
    parts: list[RenderableType] = [Text(printable(line)) for line in lines]
    if active.current is not None:
        parts += [_bar(active.current), *map(Text, _curves(active.current))]
    after = [*_finished(active), spent_text(active)]
    if active.count("done") < len(active.steps):
        after.append(left_text(active))
    after.append(next_step_text(status))
    return Group(*parts, *(Text(printable(line)) for line in after))


def _heading(status: RunStatus) -> str:
    return f"{status.root}: recipe {status.recipe}, {status.count('done')} of {len(status.steps)} steps done"


def _bar(current: CurrentStep) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_column()
    row.add_column(no_wrap=True)
    unit = "steps" if isinstance(current.step, Train) else current.step.unit
    amount = f"{current.items:,}/{current.expected:,} {unit}" if current.expected else f"{current.items:,} {unit}"
    bar = ProgressBar(total=1, completed=current.share, width=_BAR)
    row.add_row(Text(one_line(title(current.step))), bar, Text(f"{amount} in {seconds_words(current.seconds)}"))
    return row


def _curves(current: CurrentStep) -> Iterator[str]:
    """Yield a line for each metric of a training: its last value, and its values so far from left to right."""
    rows = [training_figures(row) for row in current.rows]
    for label in rows[-1] if rows else ():
        values = [row[label] for row in rows if label in row]
        yield f"  {label:8} {figure_word(label, values[-1]):>9}  {curve(values)}"


def curve(values: Sequence[float], width: int = _CURVE) -> str:
    """Return values as a line of at most ``width`` block characters, from the lowest to the highest value.

    Each character is the mean of a group of neighbouring values; the groups are of nearly equal size.
    """
    columns = min(width, len(values))
    bounds = [len(values) * column // columns for column in range(columns + 1)] if columns else [0]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(bounds)]
    lowest, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(_LEVELS[round((mean - lowest) / span * (len(_LEVELS) - 1)) if span else 0] for mean in means)


def _finished(status: RunStatus) -> list[str]:
    """The counts of the last finished steps, the newest one last."""
    done = [step for step in status.steps if step.state == "done" and step.counts]
    return [f"  {title(step.step)}: {counts_words(step.step, step.counts)}" for step in done[-_FINISHED:]]
