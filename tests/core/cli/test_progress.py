"""Progress of a run: lines, bars, and the estimate of the remaining time."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest

from tutelage.cli import progress as module
from tutelage.cli.progress import Bars, Lines, finished_line, item_bar, reporting
from tutelage.cli.stopping import STOPPING, _above_bars
from tutelage.execution.reporter import EarlierStep, Silent
from tutelage.planning.steps import BuildExamples, Sample, Step, Train, Worker

EXAMPLES = BuildExamples(output="seed-0/M1/examples.jsonl", count=100)
STUDENT = Worker("student", "M1")


def sample(count: int, output: str = "seed-0/M1/samples/candidates.jsonl") -> Step:
    from tutelage.records import Sampling

    return Sample(output=output, count=count, worker=STUDENT, prompts="p", n=1, sampling=Sampling())


def train(count: int) -> Step:
    from tutelage.objectives import Sft

    return Train(output="c", count=count, examples="e", start=STUDENT, reference=None, objective=Sft(), model="M1")


def test_a_line_says_which_step_what_became_of_its_items_and_how_long_it_took() -> None:
    line = finished_line(sample(2048), 4, 96, 1.74, {"answered": 2036, "cut": 12})
    assert line == "[ 4/96] generate M1: 2,048 answers (12 cut) in 1.7 s -> seed-0/M1/samples/candidates.jsonl"


def test_lines_count_the_steps_of_the_whole_plan(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.planned([EXAMPLES, train(100)], [EarlierStep(sample(100), 1.0)] * 94)
    lines.finished(EXAMPLES, 0.01, {"ift": 48, "eft": 96})
    lines.finished(train(100), 62.0, {"steps": 18})
    lines.note("by the way\x1b[2J")
    assert capsys.readouterr().err.splitlines() == [
        "[95/96] examples: 48 ift (96 eft) in 0.0 s -> seed-0/M1/examples.jsonl",
        "[96/96] train M1: 18 steps in 1 min 2 s -> c",
        "by the way",
    ]


class Clock:
    """The time that ``Bars`` reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def bars(clock: Clock) -> Bars:
    from rich.console import Console
    from rich.progress import Progress

    return Bars(Progress(console=Console(file=io.StringIO()), auto_refresh=False))


def shown(bars: Bars) -> tuple[dict[str, Any], dict[str, Any]]:
    """The texts of the bars of the current step and of the whole run."""
    current, whole = (bars.progress.tasks[task].fields for task in (bars.current, bars.whole))
    return current, whole


def test_bars_show_items_rate_and_the_time_left_of_the_step_and_of_the_whole(bars: Bars, clock: Clock) -> None:
    steps = [sample(100), sample(1000), sample(200)]
    bars.planned(steps, [EarlierStep(sample(100), None)] * 7)
    bars.started(steps[0])
    assert shown(bars)[1]["left"] == ""
    clock.now = 1.0
    bars.finished(steps[0], 1.0, {"answered": 100})
    assert shown(bars)[1]["left"] == "12 s left"
    bars.started(steps[1])
    bars.expected(steps[1], 500)
    for second in range(1, 6):
        clock.now = 1.0 + second
        bars.advanced(steps[1], 50)
    current, whole = shown(bars)
    assert (current["amount"], current["rate"], current["left"]) == ("250/500 answers", "50/s", "5.0 s left")
    assert (whole["amount"], whole["left"]) == ("8/10 steps", "7.0 s left")
    assert bars.progress.tasks[bars.whole].completed == 8


def test_items_that_an_earlier_process_finished_do_not_count_as_pace(bars: Bars, clock: Clock) -> None:
    steps = [train(1000), train(1000)]
    bars.planned(steps)
    bars.started(steps[0])
    bars.expected(steps[0], 100)
    clock.now = 10.0
    bars.advanced(steps[0], 80)  # restored from a training checkpoint, after the start of the library
    for second in range(1, 11):
        clock.now = 10.0 + second
        bars.advanced(steps[0], 1)
    current, whole = shown(bars)
    assert (current["amount"], current["left"]) == ("900/1,000 examples seen", "10.0 s left")
    assert whole["left"] == "1 min 50 s left"
    clock.now = 30.0
    bars.advanced(steps[0], 10)
    bars.finished(steps[0], 500.0, {"steps": 100})  # the seconds of all its parts
    assert shown(bars)[1]["left"] == "1 min 40 s left"


def test_no_bar_is_without_a_title_and_the_bar_of_a_new_step_has_no_figures_of_the_last_one(
    bars: Bars, clock: Clock
) -> None:
    bars.planned([sample(100), train(936)])
    assert [task.description for task in bars.progress.tasks if task.visible] == ["whole run"]
    bars.started(sample(100))
    clock.now = 2.0
    bars.advanced(sample(100), 50)
    bars.finished(sample(100), 2.0, {"answered": 100})
    bars.started(train(936))
    task = bars.progress.tasks[bars.current]
    assert (task.visible, task.description, task.fields["amount"]) == (True, "train M1", "0/936 examples seen")
    assert (task.fields["rate"], task.fields["left"]) == ("", "")


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_no_figure_of_a_bar_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", str(columns))
    progress = module._bars()
    progress.live.console = console = Console(file=io.StringIO(), width=columns)
    figures: dict[str, Any] = {"amount": "112,345/120,480 answers", "rate": "$1,234.50", "left": "59 min 59 s left"}
    progress.add_task("generate M2/teacher-demonstration", total=10, completed=4, **figures)
    console.print(progress.get_renderable())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 1
    assert all(figure in lines[0] for figure in figures.values())
    bars = Bars(progress)
    bars.started(train(120_480))
    bars.logged(
        train(120_480), {"loss": 0.61234, "rewards/margins": -0.012345, "rewards/accuracies": 0.8125, "step": 3}
    )
    bars._draw(train(120_480))
    with console.capture() as shown:
        console.print(progress.get_renderable())
    assert shown.get().splitlines()[-1] == "  loss 0.612, margin -0.0123, accuracy 0.81"
    bars.finished(train(120_480), 1.0, {"steps": 3})
    with console.capture() as shown:
        console.print(progress.get_renderable())
    assert "loss" not in shown.get()


def test_the_bar_of_a_command_names_its_unit_and_is_erased_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    written = Terminal()
    monkeypatch.setattr("sys.stderr", written)
    with item_bar("verdicts", 10) as bar:
        bar.update(10)
    assert "verdicts  [####" in shown_on_screen(written.getvalue())[0]
    written.truncate(0)
    with pytest.raises(KeyboardInterrupt), item_bar("verdicts", 10) as bar:
        bar.update(5)
        raise KeyboardInterrupt
    assert shown_on_screen(written.getvalue().lstrip("\0")) == []


@pytest.mark.parametrize("steps", [0, 1])
def test_a_message_at_ctrl_c_replaces_the_bars_and_they_are_drawn_once_below_it(steps: int) -> None:
    """The bars were left above the message and drawn again below it."""
    from rich.console import Console
    from rich.progress import Progress

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    bars = Bars(Progress("{task.description}", console=console, auto_refresh=False, transient=True))
    assert bars.lines() == 0
    bars.planned([sample(100)])
    if steps:
        bars.started(sample(100))
    bars.progress.refresh()
    assert bars.lines() == 1 + steps
    screen.write(_above_bars(STOPPING, bars.lines()).decode())
    bars.progress.refresh()
    titles = ["whole run", "generate M1"][: 1 + steps]
    assert shown_on_screen(screen.getvalue()) == ["stopping after the current work", *titles]
    bars.progress.stop()
    assert shown_on_screen(screen.getvalue()) == ["stopping after the current work"]


def shown_on_screen(written: str) -> list[str]:
    """The lines of a terminal that understands the sequences of rich: erase the line, move up, carriage return."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[AK]|\x1b\[[?\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row - len(lines) + 1)
        elif part.endswith("K"):
            lines[row] = ""
        elif part.endswith("A"):
            row -= 1
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_a_step_shorter_than_a_second_is_measured_by_its_duration(bars: Bars, clock: Clock) -> None:
    steps = [sample(100), sample(1000)]
    bars.planned(steps)
    bars.started(steps[0])
    clock.now = 0.5
    bars.advanced(steps[0], 100)
    bars.finished(steps[0], 0.5, {"answered": 100})
    assert shown(bars)[1]["left"] == "5.0 s left"


def test_a_log_gets_lines_and_quiet_gets_no_output() -> None:
    with reporting(quiet=False) as reporter:
        assert isinstance(reporter, Lines)
    with reporting(quiet=True) as reporter:
        assert type(reporter) is Silent
