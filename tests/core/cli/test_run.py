"""``tutelage run`` and ``tutelage plan``: output, continuation, Ctrl-C and errors."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
    assert result.stderr.startswith("[37/37] summarise: ")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_folder_without_a_run_is_refused_if_no_recipe_is_named(invoke: Invoke, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder, problem in {
        "rnus/demo": "this folder does not exist",
        "empty": "this folder contains no run (recipe.yaml is missing)",
    }.items():
        result = invoke(command, "--run", folder)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"error: --run {folder}: {problem}; to start a run there, name its recipe: "
            f"`tutelage run RECIPE --run {folder}`, for example embedded\n"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"empty"}


def test_the_folder_of_a_run_in_place_of_a_recipe_continues_it(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    assert f", in {golden}\n" in invoke("plan", golden).stdout
    (golden / "summary.json").unlink()
    result = invoke("run", golden)
    assert result.exit_code == 0, result.output
    assert (golden / "summary.json").exists()
    assert f"The run is in {golden};" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_a_run_gives_its_recipe_to_a_run_in_another_folder(invoke: Invoke, golden: Path) -> None:
    assert ", in elsewhere\n" in invoke("plan", golden, "--run", "elsewhere").stdout
    shown = invoke("recipes", "show", golden)
    assert shown.exit_code == 0 and shown.stdout.startswith("models:\n")


@pytest.mark.parametrize("command", ["run", "plan", "doctor"])
def test_a_folder_that_is_no_run_is_no_recipe(invoke: Invoke, tmp_path: Path, command: str) -> None:
    (tmp_path / "data").mkdir()
    result = invoke(command, "data")
    assert result.exit_code == 2
    assert "data: this folder contains no run (recipe.yaml is missing); name a recipe or the folder" in result.stderr


def test_the_name_of_a_run_below_runs_is_recognised(invoke: Invoke, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    golden.rename(tmp_path / "runs/demo")
    result = invoke("run", "demo")
    assert result.exit_code == 2
    assert "no recipe 'demo'; did you mean the run runs/demo?" in result.stderr


@pytest.mark.parametrize(
    ("option", "model", "hint"),
    [
        ("--student", "Qwen/Qwen2.5-0.5B", "transformers:Qwen/Qwen2.5-0.5B"),
        ("--judge", "gpt-4o", "openai:gpt-4o"),
        ("--teacher", "gemini-2.5-flash", "gemini:gemini-2.5-flash"),
    ],
)
def test_a_model_without_its_plugin_is_completed_in_the_error(
    invoke: Invoke, recipe_file: Write, small: Small, tmp_path: Path, option: str, model: str, hint: str
) -> None:
    pipelines = {"teacher-reward": None, "teacher-demonstration": None}
    recipe = recipe_file(**{**small, "pipelines": pipelines, "controls": {}})
    for command in ("plan", "run"):
        result = invoke(command, recipe, option, model)
        assert result.exit_code == 2
        assert f"no plugin {model!r} is installed; did you mean {hint}?" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_refusals_in_finished_steps_are_said_to_stay(invoke: Invoke, golden: Path) -> None:
    assert "refusals" not in invoke("run", "--run", golden, "--ask-refused-again").stderr
    output = "seed-0/self-reward/M2/judgements.jsonl"
    Store(golden).note_step(output, 1.0, {"answered": 10, "refused": 1200})
    said = invoke("run", "--run", golden, "--ask-refused-again")
    assert said.exit_code == 0, said.output
    assert f"1,200 refusals in finished steps of {golden} are kept; a run in another folder (--run)" in said.stderr
    assert "refusals" not in invoke("run", "--run", golden).stderr


def test_a_changed_recipe_says_what_is_kept_and_what_is_made_again(
    invoke: Invoke, recipe_file: Write, small: Small
) -> None:
    invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    changed = invoke("run", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3")
    assert changed.exit_code == 0, changed.output
    lines = changed.stderr.splitlines()
    assert lines[0] == "  dpo.beta: 0.1 -> 0.3"
    assert lines[1].startswith("kept: M1; 16 examples, 70 prompts, 460 answers, ")
    assert lines[2].startswith("to make: 1 training, ")
    assert re.fullmatch(r"set aside: \d+ artifacts that took [\d.]+ s; `tutelage free here` deletes them", lines[3])
    back = invoke("run", recipe_file(**small), "--run", "here")
    assert back.stderr.splitlines()[0] == "  dpo.beta: 0.3 -> 0.1"
    assert any(line.startswith("reused from elsewhere: M2/self-reward; ") for line in back.stderr.splitlines())
    assert not any(line.startswith("[") for line in back.stderr.splitlines()), "a step was done again"


def test_long_work_is_not_replaced_without_a_question(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    Store(Path("here")).note_step("seed-0/self-reward/M2/checkpoint", 7200.0, {"steps": 4}, cost=12.5)
    before = Path("here/recipe.yaml").read_text()
    refused = invoke("run", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3")
    assert refused.exit_code == 2
    assert "replaces artifacts that took 2 h 0 min and cost $12.50; add --yes to replace them" in refused.stderr
    assert Path("here/recipe.yaml").read_text() == before
    assert invoke("run", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3", "--yes").exit_code == 0


def test_a_plan_shows_on_its_first_screen_what_is_left_and_what_is_kept(
    invoke: Invoke, recipe_file: Write, small: Small
) -> None:
    fresh = invoke("plan", recipe_file(**small), "--run", "here").stdout
    assert "time: unknown for " in fresh
    invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    shown = invoke("plan", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3").stdout.splitlines()
    assert "  dpo.beta: 0.1 -> 0.3" in shown
    assert any(line.startswith("kept: M1; ") for line in shown)
    assert any(re.match("time: about [0-9.]+ s, by the speed of earlier runs", line) for line in shown)
    assert len(shown) <= 30
    assert max(map(len, shown)) <= 100
    finished = invoke("plan", recipe_file(**small), "--run", "here").stdout.splitlines()
    assert finished[1:] == ["", "nothing to do: every artifact is in place"]
    every = invoke("plan", recipe_file(**small), "--run", "here", "--steps").stdout
    assert re.search("train +M1 +checkpoint +\\d+ examples seen +kept +examples.jsonl", every)


def test_explain_shows_what_an_artifact_was_made_from_and_why_it_would_be_made_again(
    invoke: Invoke, recipe_file: Write, small: Small
) -> None:
    invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    artifact = "here/seed-0/self-reward/M2/checkpoint/"
    made = invoke("explain", "here", artifact)
    assert made.exit_code == 0, made.output
    lines = made.stdout.splitlines()
    assert lines[0].startswith("seed-0/self-reward/M2/checkpoint, fingerprint ")
    assert {"  beta: 0.1", "  start: M1", "  student.plugin: numbers", "is up to date"} <= set(lines)
    assert any(line.startswith("  seed-0/self-reward/M2/preferences.jsonl (") for line in lines)
    changed = invoke("explain", "here", artifact, "--recipe", recipe_file(**small), "--set", "dpo.beta=0.3").stdout
    assert changed.endswith("would be made again, because of:\n  beta: 0.1 -> 0.3\n")
    all_of_them = json.loads(invoke("explain", "here", "--json", "--set", "sft.epochs=2").stdout)
    states = {row["artifact"]: row["state"] for row in all_of_them}
    assert (states["seed-0/M1/examples.jsonl"], states["seed-0/M1/checkpoint"]) == ("kept", "again")
    assert states["summary.json"] == "again"
    for path in (f"./{artifact}", Path(artifact).absolute(), artifact.removeprefix("here/")):
        assert invoke("explain", "here", path).stdout == made.stdout
    listed = invoke("explain", "here", "--set", "dpo.beta=0.3").stdout
    assert re.search(r"summary\.json +again +\S+ changes \(and \d+ more\)", listed)
    unknown = invoke("explain", "here", "seed-0/M1/checkpoin")
    assert unknown.exit_code == 2
    assert "did you mean 'seed-0/M1/checkpoint'?" in unknown.stderr


def test_free_shows_and_deletes_what_was_set_aside(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    assert invoke("free", "here").stdout == "here: nothing was set aside\n"
    invoke("run", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3", "--quiet")
    shown = invoke("free", "here", "--dry-run").stdout
    assert re.search(r"^seed-0/self-reward/M2/checkpoint +[0-9a-f]{8} +0.0 MiB$", shown, re.M)
    assert re.search(r"^\d+ artifacts use at most [\d.]+ MiB: links", shown, re.M)
    assert invoke("free", "here").stdout.splitlines()[-1].startswith("deleted ")
    assert not Path("here/.replaced").exists()
    assert invoke("plan", recipe_file(**small), "--run", "here", "--set", "dpo.beta=0.3", "--json").exit_code == 0


def test_runs_share_a_cache(invoke: Invoke, recipe_file: Write, small: Small) -> None:
    invoke("run", recipe_file(**small), "--run", "one", "--cache", "cache", "--quiet")
    shared = invoke("run", recipe_file(**small), "--run", "two", "--cache", "cache")
    assert shared.exit_code == 0, shared.output
    assert shared.stderr.startswith("kept: nothing\nreused from elsewhere: M1, M2/self-reward; ")
    assert Path("one/summary.json").read_bytes() == Path("two/summary.json").read_bytes()


def test_set_and_roles_change_the_recipe_that_a_run_keeps(
    invoke: Invoke, recipe_file: Write, small: Small, tmp_path: Path
) -> None:
    import yaml

    options = ("--set", "dpo.beta=0.3", "--set", "seeds=[4]", "--teacher", "numbers:numbers/novice")
    assert invoke("run", recipe_file(**small), *options, "--run", "here", "--quiet").exit_code == 0
    kept = yaml.safe_load((tmp_path / "here/recipe.yaml").read_text())
    assert (kept["dpo"]["beta"], kept["pipelines"]["self-reward"]) == (0.3, {})
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
    result = invoke("plan", recipe_file(**small), "--steps")
    assert result.exit_code == 0
    assert ", 3 models, in runs/numbers\n" in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "train M2/self-reward checkpoint 40 examples seen new preferences.jsonl, seed-0/M1/checkpoint" in lines
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


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 130), (b"\x03", 130)], ids=str)
def test_the_question_before_long_work_is_replaced_is_shown_alone_and_can_be_interrupted(
    numbers_distribution: Path,
    invoke: Invoke,
    recipe_file: Write,
    small: Small,
    tmp_path: Path,
    answer: bytes,
    code: int,
) -> None:
    script = str(Path(sys.executable).with_name("tutelage"))
    command = [script, "run", str(recipe_file(**small)), "--run", "here"]
    environment = {**os.environ, "PYTHONPATH": str(numbers_distribution), "TERM": "xterm"}
    assert invoke(*command[1:], "--quiet").exit_code == 0
    Store(tmp_path / "here").note_step("seed-0/self-reward/M2/checkpoint", 7200.0, {"steps": 4})
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execve(script, [*command, "--set", "dpo.beta=0.3"], environment)
    shown = b""
    while b"[y/N]: " not in shown:
        shown += os.read(terminal, 65536)
    assert "whole run" not in shown.decode(), "bars would erase the question"
    os.write(terminal, answer)
    shown += _read_all(terminal, again=answer)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == code, shown.decode()
    assert ("nothing was changed" in shown.decode()) is (code == 130)


def _read_all(descriptor: int, again: bytes = b"") -> bytes:
    """Read to the end. ``again`` is written whenever nothing came for a while.

    Python misses a Ctrl-C that arrives just before it starts to wait for a line. A person presses it once more.
    """
    parts = []
    while True:
        try:
            while again and not select.select([descriptor], [], [], 5.0)[0]:
                os.write(descriptor, again)
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
    steps = [line[:7] for line in again.stderr.splitlines() if not line.startswith("warning: ")]
    assert steps == [f"[{number:2}/84]" for number in range(done + 1, 85)]
