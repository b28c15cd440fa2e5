"""Ctrl-C, SIGTERM and SIGHUP stop a run at a safe point, and the run can be continued."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interrupted_runs import artifacts_of, continue_command
from recipes import numbers_recipe

from tutelage.cli.stopping import interrupt_on_termination, stop_on_interrupt
from tutelage.errors import Interrupted
from tutelage.execution.runner import run
from tutelage.plugins.registry import Registry
from tutelage.recipe.schema import Recipe


def test_the_first_ctrl_c_asks_and_the_second_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        assert "press Ctrl-C again to stop immediately" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_asks_to_stop_and_a_repetition_changes_nothing(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with stop_on_interrupt() as asked:
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert asked()
        assert capfd.readouterr().err == "\nstopping after the current work\n"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_keeps_no_work_stops_at_once_and_cleans_up_undisturbed(number: signal.Signals) -> None:
    cleaned = False
    with pytest.raises(KeyboardInterrupt), interrupt_on_termination():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned = True
    assert cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.fixture
def ignored(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    before = signal.signal(request.param, signal.SIG_IGN)
    yield request.param
    signal.signal(request.param, before)


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], indirect=True)
def test_a_signal_that_was_ignored_stays_ignored(ignored: signal.Signals) -> None:
    with stop_on_interrupt() as asked:
        os.kill(os.getpid(), ignored)
        assert not asked()
    with interrupt_on_termination():
        os.kill(os.getpid(), ignored)
    assert signal.getsignal(ignored) is signal.SIG_IGN


@pytest.mark.parametrize("item_by_item", [False, True])
def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_artifacts(
    tmp_path: Path, numbers_registry: Registry, make_recipe: Callable[..., Recipe], item_by_item: bool
) -> None:
    data = numbers_recipe()["data"]
    data["prompts"]["count"] = 6  # each item of an API is made durable separately, which is slow
    changes = {"pipelines": {"self-reward": None}, "controls": {}, "evaluation": None, "data": data, "chunk": 2}
    recipe = make_recipe(**changes)
    registry = _item_by_item(numbers_registry) if item_by_item else numbers_registry
    run(recipe, tmp_path / "undisturbed", registry)
    stops = 0

    def asked_after(calls: int) -> Callable[[], bool]:
        left = [calls]

        def asked() -> bool:
            left[0] -= 1
            return left[0] < 0

        return asked

    while True:
        try:
            run(recipe, tmp_path / "stopped", registry, cancelled=asked_after(3 + stops))
        except Interrupted:
            stops += 1
        else:
            break
    assert stops > 3
    assert artifacts_of(tmp_path / "stopped") == artifacts_of(tmp_path / "undisturbed")


def _item_by_item(registry: Registry) -> Registry:
    """The same plugin, declared ``item_by_item`` like an API: each result is stored separately."""
    import types

    import echoing_world
    from attrs import evolve

    from tutelage.hookspecs import hookimpl

    info: Any = registry.info("numbers")
    world = types.ModuleType("numbers_by_item")
    world.__dict__.update(vars(echoing_world))
    world.__dict__["describe"] = hookimpl(lambda: evolve(info, item_by_item=True))
    other = Registry.empty()
    other.register(world, "numbers")
    return other


def test_a_second_ctrl_c_ends_the_command_with_a_message_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Any], recipe_file: Callable[..., Path], small: dict[str, Any]
) -> None:
    import echoing_world

    from tutelage.hookspecs import hookimpl

    @hookimpl
    def impatient(prompts: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield from prompts

    monkeypatch.setattr(echoing_world, "generate_candidates", impatient)
    result = invoke("run", recipe_file(**small), "--quiet")
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "stopped immediately; finished work is kept, and the same command continues the run\n"
        "continue with: tutelage run --run runs/numbers\n"
    )


@pytest.fixture
def started(
    numbers_distribution: Path, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Start ``tutelage run`` on a small recipe as a separate process."""
    recipe_file(**small)

    def start(*options: str, prefix: tuple[str, ...] = (), **streams: Any) -> subprocess.Popen[str]:
        tutelage = str(Path(sys.executable).with_name("tutelage"))
        command = [*prefix, tutelage, "run", "numbers.yaml", *options]
        environment = {**os.environ, "PYTHONPATH": str(numbers_distribution)}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **streams)

    return start


def _wait_for_steps(log: Path, count: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and (log.read_bytes().count(b"\n") if log.exists() else 0) < count:
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_run_that_is_terminated_at_random_steps_ends_with_the_same_artifacts(
    started: Callable[..., subprocess.Popen[str]], invoke: Callable[..., Any], tmp_path: Path, number: signal.Signals
) -> None:
    """Small version of ``python -m tests.prove stops``."""
    assert invoke("run", "numbers.yaml", "--run", "undisturbed", "--quiet").exit_code == 0
    draw, stops = random.Random(number), 0
    while True:
        noted = (tmp_path / "stopped/steps.jsonl").read_bytes().count(b"\n") if stops else 0
        with started("--run", "stopped", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            _wait_for_steps(tmp_path / "stopped/steps.jsonl", noted + draw.randint(4, 13), process)
            process.send_signal(number)
            assert process.stderr is not None
            said = process.stderr.read()
        assert "Traceback" not in said
        if process.returncode == 0:
            break
        assert process.returncode == 130, said
        assert continue_command(said) == ["tutelage", "run", "--run", "stopped"]
        stops += 1
    assert stops > 1
    assert artifacts_of(tmp_path / "stopped") == artifacts_of(tmp_path / "undisturbed")


def test_a_signal_after_the_last_step_stops_the_page_and_not_the_finished_run(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with started("--run", "here", "--quiet", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (tmp_path / "here/summary.json").exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said and "The run is in here; all figures are in summary.json there." in printed


def test_a_run_under_nohup_survives_the_end_of_its_terminal(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with started("--run", "here", "--quiet", prefix=("nohup",), stdout=subprocess.DEVNULL) as process:
        _wait_for_steps(tmp_path / "here/steps.jsonl", 1, process)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0
    assert (tmp_path / "here/summary.json").exists()


def test_a_run_whose_terminal_is_closed_stops_without_a_traceback(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The progress bars are drawn on a terminal that does not exist any more: each write is an error."""
    outer, terminal = pty.openpty()
    with started("--run", "here", stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        _wait_for_steps(tmp_path / "here/steps.jsonl", 2, process)
        os.close(outer)
        process.send_signal(signal.SIGHUP)  # the system sends it to the session of a terminal alone
    assert process.returncode in (0, 130)
    again = started("--run", "here", "--quiet")
    assert again.wait() == 0
