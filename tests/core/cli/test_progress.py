"""Progress of a run: lines, bars, and the estimate of the remaining time."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from tutelage.cli import progress as module
from tutelage.cli.forecast import Forecast
from tutelage.cli.progress import Bars, Lines, finished_line, reporting
from tutelage.execution.reporter import Silent
from tutelage.planning.steps import BuildExamples, Sample, Step, Train, Worker

EXAMPLES = BuildExamples(output="seed-0/M1/examples.jsonl", count=100)
STUDENT = Worker("student", "M1")


def sample(count: int, output: str = "seed-0/M1/samples/candidates.jsonl") -> Step:
    from tutelage.records import Sampling

    return Sample(output=output, count=count, worker=STUDENT, prompts="p", n=1, sampling=Sampling())


def train(count: int) -> Step:
    from tutelage.records import Sft

    return Train(output="c", count=count, examples="e", start=STUDENT, reference=None, objective=Sft(), model="M1")


def test_there_is_no_estimate_before_the_first_step_has_finished() -> None:
    assert Forecast().left([sample(100)]) is None


def test_a_kind_of_work_takes_as_long_an_item_as_it_took() -> None:
    forecast = Forecast()
    forecast.finished(sample(100), 10.0)
    assert forecast.left([sample(50), sample(200)]) == pytest.approx(25.0)
    forecast.finished(sample(100), 30.0)
    assert forecast.left([sample(100)]) == pytest.approx(20.0)


def test_a_kind_that_was_not_seen_is_scaled_from_those_that_were() -> None:
    forecast = Forecast()
    forecast.finished(sample(100), 8.0)
    assert forecast.left([train(100)]) == pytest.approx(30.0)
    forecast.finished(train(100), 100.0)
    assert forecast.left([train(10)]) == pytest.approx(10.0)


def test_a_line_says_which_step_what_became_of_its_items_and_how_long_it_took() -> None:
    line = finished_line(sample(2048), 4, 96, 1.74, {"answered": 2036, "cut": 12})
    assert line == "[ 4/96] generate M1: 2,048 answers (12 cut) in 1.7 s -> seed-0/M1/samples/candidates.jsonl"


def test_lines_count_the_steps_that_were_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.planned([EXAMPLES, train(100)])
    lines.finished(EXAMPLES, 0.01, {"ift": 48, "eft": 96})
    lines.finished(train(100), 62.0, {"steps": 18})
    lines.note("by the way\x1b[2J")
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] examples: 48 ift (96 eft) in 0.0 s -> seed-0/M1/examples.jsonl",
        "[2/2] train M1: 18 steps in 1 min 2 s -> c",
        "by the way",
    ]


def test_bars_show_items_rate_and_the_time_left_of_the_step_and_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.progress import Progress

    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    bars = Bars(progress)
    steps = [sample(100), sample(1000), train(10)]
    bars.planned(steps)
    bars.started(steps[0])
    bars.finished(steps[0], 1.0, {"answered": 100})
    bars.started(steps[1])
    bars.expected(steps[1], 500)
    now[0] += 1.0
    bars.advanced(steps[1], 50)
    current, whole = (progress.tasks[task].fields for task in (bars.current, bars.whole))
    assert (current["amount"], current["rate"], current["left"]) == ("50/500", "50/s", "9.0 s left")
    assert (whole["amount"], whole["left"]) == ("1/3 steps", "9.4 s left")  # training takes 10 * 30 / 8 * 0.01 s more
    assert progress.tasks[bars.whole].completed == 1


def test_a_log_gets_lines_and_quiet_gets_no_output() -> None:
    with reporting(quiet=False) as reporter:
        assert isinstance(reporter, Lines)
    with reporting(quiet=True) as reporter:
        assert type(reporter) is Silent
