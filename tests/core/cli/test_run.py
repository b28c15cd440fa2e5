"""``tutelage run`` and ``tutelage plan``: output, continuation, Ctrl-C and errors."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tutelage.runs.store import Store

Invoke = Callable[..., Result]
Write = Callable[..., Path]
Small = dict[str, Any]


def test_a_run_ends_in_tables_and_says_what_to_try_next(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    result = invoke("run", recipe_file(**small))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    titles = {"Answers to held-out prompts", "Gain over M1", "Against its parent, and as a judge of its own answers"}
    assert titles <= set(lines)
    [answers, gain, rivals] = [line.split() for line in lines if line.startswith("M2/self-reward ")]
    assert len(answers) == 1 + 4 * len(["value", "low", "high"])
    assert gain[1][0] in "+-"
    assert rivals[1].count("/") == 2
    assert lines[-1] == "Try its last model with: tutelage chat runs/numbers"


def test_without_a_terminal_each_step_is_one_line_on_stderr(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    result = invoke("run", recipe_file(**small), "--run", "here")
    steps = len(json.loads(invoke("plan", recipe_file(**small), "--json").stdout)["steps"])
    lines = result.stderr.splitlines()
    warnings = [number for number, line in enumerate(lines) if line.startswith("warning: ")]
    assert len(lines) == steps + len(warnings)
    assert [lines[number - 1].split()[2] for number in warnings] == ["pair:"]
    assert "M2/self-reward, seed 0: it is trained on 32 pairs only" in lines[warnings[0]]
    assert lines[0].startswith(f"[ 1/{steps}] examples: ")
    [judged] = [line for line in lines if "self-reward/M2/judgements.jsonl" in line]
    assert "judge M1: 320 judgements (7 unparsed) in " in judged


def test_quiet_is_quiet(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    assert invoke("run", recipe_file(**small), "--quiet").stderr == ""


def test_json_is_the_summary_and_nothing_else(invoke: Invoke, recipe_file: Write, small: Small, tmp_path: Path) -> None:
    result = invoke("run", recipe_file(**small), "--json", "--run", "here")
    assert result.stdout == (tmp_path / "here/summary.json").read_text()
    assert {row["id"] for row in json.loads(result.stdout)["models"]} == {"M0", "M1", "M2/self-reward"}


def test_a_run_that_measures_nothing_has_no_tables(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    result = invoke("run", recipe_file(**small, evaluation=None))
    assert result.exit_code == 0
    assert result.stdout.startswith("\nThe run is in runs/numbers.\n")
    assert invoke("run", recipe_file(**small, evaluation=None), "--json").stdout == "null\n"


def test_a_run_continues_by_its_folder_alone(invoke: Invoke, golden: Path) -> None:
    (golden / "summary.json").unlink()
    result = invoke("run", "--run", golden)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("[1/1] summarise: ")


def test_refusals_in_finished_steps_are_said_to_stay(invoke: Invoke, golden: Path) -> None:
    assert "refusals" not in invoke("run", "--run", golden, "--ask-refused-again").stderr
    output = "seed-0/self-reward/M2/judgements.jsonl"
    Store(golden).note_step(output, 1.0, {"answered": 10, "refused": 1200})
    said = invoke("run", "--run", golden, "--ask-refused-again")
    assert said.exit_code == 0, said.output
    assert f"1,200 refusals in finished steps of {golden} are kept; a run in another folder (--run)" in said.stderr
    assert "refusals" not in invoke("run", "--run", golden).stderr


def test_a_folder_with_another_recipe_is_refused(invoke: Invoke, golden: Path) -> None:
    result = invoke("run", "--run", golden, "--set", "dpo.beta=0.3")
    assert result.exit_code == 2
    assert "made by another recipe (differing: beta: 0.3" in result.stderr


def test_set_and_roles_change_the_recipe_that_a_run_keeps(
    invoke: Invoke, recipe_file: Write, small: Small, tmp_path: Path
) -> None:
    import yaml

    options = ("--set", "dpo.beta=0.3", "--set", "seeds=[4]", "--teacher", "numbers:numbers/novice")
    assert invoke("run", recipe_file(**small), *options, "--run", "here", "--quiet").exit_code == 0
    kept = yaml.safe_load((tmp_path / "here/recipe.yaml").read_text())
    assert kept["pipelines"]["self-reward"]["dpo"]["beta"] == 0.3
    assert kept["seeds"] == [4]
    assert kept["models"]["teacher"]["model"] == "numbers/novice"


def test_a_run_that_another_process_holds_is_refused(invoke: Invoke, golden: Path) -> None:
    from tutelage.runs.store import Store

    (golden / "summary.json").unlink()
    with Store(golden).lock():
        result = invoke("run", "--run", golden)
    assert result.exit_code == 4
    assert f"process {os.getpid()} is working on this run" in result.stderr


def test_plan_shows_inputs_outputs_and_counts_and_writes_nothing(
    invoke: Invoke, recipe_file: Write, small: Small, tmp_path: Path
) -> None:
    result = invoke("plan", recipe_file(**small))
    assert result.exit_code == 0
    assert ", 3 models, in runs/numbers\n" in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "train M2/self-reward checkpoint 40 examples seen preferences.jsonl, seed-0/M1/checkpoint" in lines
    assert "generate student 610 answers" in lines
    assert not (tmp_path / "runs").exists()


def test_a_plan_as_json_names_every_step_after_its_inputs(invoke: Invoke, recipe_file: Write) -> None:
    plan = json.loads(invoke("plan", recipe_file(), "--json").stdout)
    made: set[str] = set()
    for step in plan["steps"]:
        assert set(step["inputs"]) <= made
        made.add(step["output"])
    assert "summary.json" in made
    judged = sum(step["count"] for step in plan["steps"] if step["stage"] == "judge")
    assert judged == sum(total["count"] for total in plan["totals"] if total["stage"] == "judge")


def test_on_a_terminal_bars_show_the_step_and_the_whole(
    numbers_distribution: Path, recipe_file: Write, small: Small, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).with_name("tutelage")), "run", str(recipe_file(**small))]
    environment = {**os.environ, "PYTHONPATH": str(numbers_distribution), "COLUMNS": "140", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = _read_all(ours).decode()
    assert process.returncode == 0, shown
    assert "whole run" in shown
    assert re.search(r"(\d+)/\1 steps", shown)
    assert " s left" in shown
    assert "\x1b[1mGain over M1" in shown


def _read_all(descriptor: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # on Linux, reading from a closed terminal raises an error
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def test_a_run_stops_at_ctrl_c_and_the_same_command_continues(
    numbers_distribution: Path, recipe_file: Write, small: Small, tmp_path: Path
) -> None:
    recipe = recipe_file(**small, evaluation=None, seeds=list(range(12)))
    command = [str(Path(sys.executable).with_name("tutelage")), "run", str(recipe)]
    environment = {**os.environ, "PYTHONPATH": str(numbers_distribution)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("[ 1/84] ")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "stopping after the current work; press Ctrl-C again to stop immediately" in rest
    assert rest.endswith(
        "stopped as requested; finished work is kept, and the same command continues\n"
        "continue with: tutelage run --run runs/numbers\n"
    )
    done = len([line for line in rest.splitlines() if line.startswith("[")]) + 1
    assert done < 84
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert f"1/{84 - done}]" in again.stderr
