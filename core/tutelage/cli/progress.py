"""Progress of a run: one line per finished step and, on a terminal, two bars with the estimated remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tutelage.cli.forecast import Forecast
from tutelage.cli.output import fitted, print_status, printable
from tutelage.cli.table_layout import cells
from tutelage.execution.reporter import EarlierStep, Reporter, Silent
from tutelage.planning.steps import Step, Train
from tutelage.results.wording import counts_words, seconds_words, title, training_words

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar
    from rich.progress import Progress

REDRAW_SECONDS = 0.1
"""Minimum time between two redraws of the bars: at thousands of items per second, drawing would dominate."""
SETTLED_SECONDS = 1.0
"""Time of a step before its pace is measured. Items that an earlier process finished are reported within it."""

_WIDE = 120
"""Number of columns of the terminal that bars of the full length and the elapsed time need."""
_NARROW_BAR = 8
_SHORT_BAR = 6
"""Length of a bar beside which the metrics of a training fit into 80 columns."""
_FIGURES = ("amount", "rate", "left")
"""The figures beside a bar, which are never cut."""


class StepPace:
    """The pace of one step: seconds per item, without the start of the step and without items that were restored."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last = (0.0, 0)

    def advanced(self, elapsed: float, items: int) -> None:
        """Record the number of items that are finished ``elapsed`` seconds after the start of the step."""
        if elapsed >= SETTLED_SECONDS:
            self._first = self._first or (elapsed, items)
            self._last = elapsed, items

    def seconds_per_item(self) -> float | None:
        """Return the pace; None if it was not measured yet."""
        if self._first is None or self._last[1] == self._first[1]:
            return None
        return (self._last[0] - self._first[0]) / (self._last[1] - self._first[1])


@contextmanager
def reporting(quiet: bool) -> Iterator[Reporter]:
    """Yield a reporter for stderr: bars on a terminal, lines otherwise, no output if ``quiet``."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        progress = _bars()
        try:
            yield Bars(progress)
        finally:
            progress.stop()
    else:
        yield Lines()


@contextmanager
def item_bar(unit: str, length: int, shown: Callable[[], str] | None = None) -> Iterator[ProgressBar[int]]:
    """Yield the bar of a command with one step, on a terminal only. After an error or Ctrl-C, the bar is erased.

    ``shown`` returns a text to show beside the bar.
    """
    bar: ProgressBar[int]
    options: dict[str, Any] = {} if shown is None else {"item_show_func": lambda _: shown(), "width": _SHORT_BAR}
    with click.progressbar(
        length=length, label=unit, file=sys.stderr, hidden=not sys.stderr.isatty(), **options
    ) as bar:
        try:
            yield bar
        except BaseException:
            if not bar.hidden:
                click.echo("\r\x1b[2K", nl=False, err=True)
                bar.hidden = True  # otherwise, a line feed is written at its end
            raise


def finished_line(step: Step, number: int, total: int, seconds: float, counts: Mapping[str, int]) -> str:
    """Return the line for a finished step: its number in the plan, title, counts by outcome, duration and output."""
    width = len(str(total))
    done = f"{counts_words(step, counts)} in {seconds_words(seconds)}"
    return f"[{number:{width}}/{total}] {title(step)}: {done} -> {step.output}"


class Lines(Silent):
    """Prints one line per finished step; suitable for logs."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        """Record the number of steps."""
        self.done, self.total = len(earlier), len(earlier) + len(steps)

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """Print the line of the step."""
        self.done += 1
        print_status(finished_line(step, self.done, self.total, seconds, counts))

    def note(self, text: str) -> None:
        """Print a note."""
        print_status(text)


class Bars:
    """Draws a bar for the whole run and one for the current step, below the lines of the finished steps."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.forecast = Forecast()
        self.steps: list[Step] = []
        """The steps that are left, the current one first."""
        self.total = self.done = 0
        self.whole = progress.add_task("whole run", total=None, amount="", rate="", left="")
        self.current = progress.add_task("", total=None, visible=False, amount="", rate="", left="")
        self.spent = self._cost = 0.0
        """US dollars, of the finished steps; ``_cost`` is that of the current step."""
        self._items = 0
        self._expected: int | None = None
        self._metrics = ""
        """The last metrics of a training, in a line below the bars."""
        self._pace = StepPace()
        self._started = self._drawn = time.monotonic()

    def lines(self) -> int:
        """Return the number of lines of the bars on the terminal; 0 before they are drawn."""
        if not self.progress.live.is_started:
            return 0
        metrics = any(task.fields.get("metrics") for task in self.progress.tasks)
        return sum(task.visible for task in self.progress.tasks) + metrics

    def planned(self, steps: Sequence[Step], earlier: Sequence[EarlierStep] = ()) -> None:
        """Start the bar of the whole run. Nothing is drawn before: a question to the user would be erased."""
        self.steps = list(steps)
        self.done, self.total = len(earlier), len(earlier) + len(steps)
        for one in earlier:
            if one.seconds is not None:
                self.forecast.earlier(one.step, one.seconds)
        amount = f"{self.done}/{self.total} steps"
        self.progress.update(self.whole, total=self.total, completed=self.done, amount=amount)
        self.progress.start()

    def started(self, step: Step) -> None:
        """Start the bar of a step."""
        self._items, self._expected, self._pace = 0, step.count or None, StepPace()
        self._metrics = ""
        self.spent, self._cost = self.spent + self._cost, 0.0
        self._started = time.monotonic()
        amount = _amount_text(step, 0, self._expected)
        self.progress.reset(
            self.current,
            description=printable(title(step)),
            total=self._expected,
            visible=True,
            amount=amount,
            rate="",
            left="",
            metrics="",
        )
        self._draw(step)

    def expected(self, step: Step, total: int) -> None:
        """Set the length of the step's bar."""
        self._expected = total
        self.progress.update(self.current, total=total)

    def advanced(self, step: Step, items: int, cost: float = 0.0) -> None:
        """Advance the step's bar."""
        self._items += items
        self._cost = cost
        self._pace.advanced(time.monotonic() - self._started, self._items)
        if time.monotonic() - self._drawn > REDRAW_SECONDS:
            self._draw(step)

    def logged(self, step: Step, row: Mapping[str, Any]) -> None:
        """Show the metrics of a training below its bar. They are drawn with the bar."""
        self._metrics = training_words(row)

    def finished(self, step: Step, seconds: float, counts: Mapping[str, int]) -> None:
        """Print the line of the step and advance the bar of the whole run."""
        self.done += 1
        self._metrics = ""
        self.steps = self.steps[1:]
        elapsed = time.monotonic() - self._started  # ``seconds`` may include those of an earlier process
        self.forecast.finished(step, elapsed, self._whole())
        self.note(finished_line(step, self.done, self.total, seconds, counts))
        self.progress.update(self.current, metrics="")
        self.progress.update(self.whole, completed=self.done, amount=f"{self.done}/{self.total} steps")
        self._draw_left(self.forecast.left(self.steps))

    def note(self, text: str) -> None:
        """Print a note above the bars."""
        self.progress.console.print(fitted(printable(text)), markup=False, highlight=False, soft_wrap=True)

    def _draw(self, step: Step) -> None:
        self._drawn = time.monotonic()
        seconds = self._drawn - self._started
        per_item = self._pace.seconds_per_item()
        rate = 1 / per_item if per_item else self._items / seconds if seconds > 0 else 0.0
        share = min(1.0, self._items / self._expected) if self._expected else 0.0
        step_left = self.forecast.current(step, seconds, share, self._whole())
        self.progress.update(
            self.current,
            completed=self._items,
            amount=_amount_text(step, self._items, self._expected),
            rate=_rate_text(rate * _unit_size(step, self._expected)),
            left=_left_text(step_left),
            metrics=self._metrics,
        )
        later = self.forecast.left(self.steps[1:])
        self._draw_left(None if later is None or step_left is None else later + step_left)

    def _whole(self) -> float | None:
        """Return the seconds that all items of the current step take at its pace; None if they are unknown."""
        per_item = self._pace.seconds_per_item()
        return None if per_item is None or not self._expected else per_item * self._expected

    def _draw_left(self, seconds: float | None) -> None:
        spent = self.spent + self._cost
        self.progress.update(self.whole, left=_left_text(seconds), rate=f"${spent:.2f}" if spent else "")


def _unit_size(step: Step, expected: int | None) -> float:
    """The size of a reported item in the unit of the plan: a training reports steps, its plan counts examples seen."""
    return step.count / expected if isinstance(step, Train) and expected and step.count else 1.0


def _amount_text(step: Step, items: int, expected: int | None) -> str:
    size = _unit_size(step, expected)
    unit = "steps" if isinstance(step, Train) and not step.count else step.unit
    done = f"{round(items * size):,}"
    return f"{done}/{round(expected * size):,} {unit}" if expected else f"{done} {unit}"


def _rate_text(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate else ""


def _left_text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds_words(seconds)} left"


def _bars() -> Progress:
    """The bars. On a narrow terminal, the bars are short and the title of a step is cut, but no figure is."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn
    from rich.table import Column
    from rich.text import Text

    console = Console(stderr=True)

    class WithMetrics(Progress):
        """Bars with the metrics of a training in a line of their own, in which no figure is cut."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            yield from (Text(f"  {metrics}") for task in self.tasks if (metrics := task.fields.get("metrics")))

    class Title(TextColumn):
        """The title of a step, cut to the columns that the bar and the figures leave."""

        def render(self, task: Task) -> Text:
            text = super().render(task)
            figures = sum(max(cells(one.fields[name]) for one in progress.tasks) for name in _FIGURES)
            text.truncate(max(1, console.width - _NARROW_BAR - figures - len(_FIGURES) - 1), overflow="ellipsis")
            return text

    def figure(name: str) -> TextColumn:
        return TextColumn(f"{{task.fields[{name}]}}", markup=False, table_column=Column(no_wrap=True))

    amount, rate, left = map(figure, _FIGURES)
    title = Title("{task.description}", markup=False)
    narrow = (title, BarColumn(bar_width=_NARROW_BAR), amount, rate, left)
    wide = (title, BarColumn(bar_width=24), amount, rate, TimeElapsedColumn(), left)
    progress = WithMetrics(*(narrow if console.width < _WIDE else wide), console=console, transient=True)
    return progress
