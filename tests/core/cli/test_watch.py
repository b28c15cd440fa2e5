"""``tutelage watch``: the progress of a run in another terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tutelage.cli.watch import curve
from tutelage.runs.started import Started, live_metrics, write_started
from tutelage.runs.store import Store

Invoke = Callable[..., Result]
CHECKPOINT = "seed-0/self-reward/M2/checkpoint"


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def in_training(golden: Path) -> Store:
    """Put the run into the state during the training of M2, at step 3 of 8."""
    store = Store(golden)
    (golden / "summary.json").unlink()
    (golden / CHECKPOINT).rename(golden / "elsewhere")
    store.scratch(CHECKPOINT)
    write_started(store, CHECKPOINT, Started("ab", 65.0, 0.0, items=2, expected=8))
    with live_metrics(store, CHECKPOINT) as write:
        for step, loss in enumerate((0.6931, 0.5, 0.25), 1):
            write({"step": step, "loss": loss, "rewards/margins": 0.25 * step, "rewards/accuracies": 0.75})
    with (golden / f".scratch/{CHECKPOINT}.metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # is being written
    return store


def test_a_finished_run_is_shown_once_and_nothing_is_written(invoke: Invoke, golden: Path) -> None:
    before = contents(golden)
    result = invoke("watch", golden)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].endswith("recipe numbers, 37 of 37 steps done")
    assert lines[-1] == "the run is finished"
    assert contents(golden) == before


def test_a_training_is_shown_with_its_steps_and_curves(invoke: Invoke, golden: Path) -> None:
    store = in_training(golden)
    with store.lock():
        before = contents(golden)
        shown = invoke("watch", golden).stdout
        status = json.loads(invoke("status", golden, "--json").stdout)
        assert contents(golden) == before
    lines = shown.splitlines()
    bar = next(line for line in lines if line.startswith("train M2/self-reward"))
    assert "3/8 steps in 1 min 5 s" in bar
    figures = [line.split() for line in lines if line.startswith("  ") and ":" not in line]
    assert figures == [["loss", "0.25", "█▅▁"], ["margin", "0.75", "▁▅█"], ["accuracy", "0.75", "▁▁▁"]]
    assert any("pairs" in line for line in lines)
    assert f"process {os.getpid()} is working on the run" in lines
    step = next(step for step in status["steps"] if step["output"] == CHECKPOINT)
    assert step["state"] == "in progress"
    assert step["kept"] == round(step["count"] * 3 / 8)


def test_what_a_killed_training_logged_is_not_shown_as_running(invoke: Invoke, golden: Path) -> None:
    in_training(golden)
    shown = invoke("watch", golden).stdout
    assert "loss" not in shown
    assert "no process is working on the run" in shown


def watched(golden: Path) -> tuple[int, int]:
    """Start the command on a terminal; returns its process and the terminal."""
    process, terminal = pty.fork()
    if process == 0:
        script = str(Path(sys.executable).with_name("tutelage"))
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
        os.execve(script, [script, "watch", str(golden), "--every", "0.1"], environment)
    return process, terminal


def read_until(terminal: int, text: bytes) -> bytes:
    shown = b""
    while text not in shown:
        shown += os.read(terminal, 65536)
    return shown


@pytest.mark.parametrize("ending", ["the run ends", "Ctrl-C"])
def test_on_a_terminal_it_refreshes_until_the_run_ends_or_ctrl_c(golden: Path, ending: str) -> None:
    store = in_training(golden)
    with store.lock():
        process, terminal = watched(golden)
        read_until(terminal, b"is working on the run")
        write_started(store, CHECKPOINT, Started("ab", 66.0, 0.0, items=5, expected=8))
        read_until(terminal, b"5/8 steps")
        if ending == "Ctrl-C":
            os.kill(process, signal.SIGINT)
            time.sleep(0.5)
    shown = b""
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # the process has ended
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert b"Traceback" not in shown
    if ending == "Ctrl-C":
        assert shown.endswith(b"\x1b[2K"), "the lines are cleared"
    else:
        assert b"no process is working on the run" in shown


def test_a_curve_has_means_of_neighbours_and_all_of_its_columns() -> None:
    assert curve([]) == ""
    assert curve([1.0]) == "▁"
    assert curve([0, 7]) == "▁█"
    assert curve([0, 0, 7, 7, 3, 4], width=3) == "▁█▅"
    assert len(curve(list(range(1000)), width=40)) == 40
