"""``tutelage chat``: a model of a run answers, and its escape sequences do not reach the terminal."""

from __future__ import annotations

import os
import pty
import select
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tutelage.cli.chat import LOADING
from tutelage.errors import InputError
from tutelage.plugins.registry import Registry
from tutelage.records import Model
from tutelage.runs.run import RunModels

Invoke = Callable[..., Result]


def skilled(golden: Path, model: str = "self-reward/M2") -> None:
    (golden / f"seed-0/{model}/checkpoint/weights.json").write_text('{"skill": 1.1}')


def test_a_prompt_is_answered_by_the_last_model_of_the_first_pipeline(invoke: Invoke, golden: Path) -> None:
    skilled(golden)
    result = invoke("chat", golden, "say 7")
    assert result.exit_code == 0, result.output
    assert result.stdout == "7\n"
    assert result.stderr == ""


def test_each_line_of_stdin_is_answered(invoke: Invoke, golden: Path) -> None:
    skilled(golden, "random-pairs/M2")
    result = invoke("chat", f"{golden}:M2/random-pairs", input="say 1\n\nsay 2\n")
    assert result.stdout == "1\n2\n"


def test_the_models_own_score_is_shown_beside_its_answer(invoke: Invoke, golden: Path) -> None:
    skilled(golden)
    result = invoke("chat", golden, "say 7", "--judge")
    assert result.stdout == "7\n"
    assert result.stderr == "(own score 5.00: 2 of 2 judgements could be parsed)\n"


def test_escape_sequences_of_an_answer_are_removed(invoke: Invoke, golden: Path) -> None:
    skilled(golden)
    assert invoke("chat", golden, "say \x1b]0;title\x07\x1b[2Jboo").stdout == "boo\n"


def test_an_empty_prompt_is_an_error(invoke: Invoke, golden: Path) -> None:
    result = invoke("chat", golden, " ")
    assert (result.exit_code, result.stderr) == (2, "error: the prompt is empty\n")


def test_a_model_that_is_not_there_is_named_with_the_nearest(invoke: Invoke, golden: Path) -> None:
    result = invoke("chat", f"{golden}:M2/self-rewards", "say 7")
    assert result.exit_code == 2
    assert "no model 'M2/self-rewards'; did you mean 'M2/self-reward'?" in result.stderr


def test_a_model_that_is_not_trained_yet_is_named_with_those_that_are(invoke: Invoke, golden: Path) -> None:
    shutil.rmtree(golden / "seed-0/self-reward/M2/checkpoint")
    result = invoke("chat", f"{golden}:M2/self-reward", "say 7")
    assert result.exit_code == 2
    assert "M2/self-reward is not trained yet; the finished models are M0, M1, M2/random-pairs" in result.stderr
    assert invoke("chat", golden, "say 7").exit_code == 0


def test_the_last_model_is_the_last_that_is_there(golden: Path) -> None:
    assert RunModels.open(golden).last() == "M2/self-reward"
    shutil.rmtree(golden / "seed-0/self-reward/M2/checkpoint")
    assert RunModels.open(golden).last() == "M1"
    shutil.rmtree(golden / "seed-0/M1/checkpoint")
    assert RunModels.open(golden).last() == "M0"


def test_a_model_of_a_run_has_the_runs_weights(golden: Path, numbers_registry: Registry) -> None:
    models = RunModels.open(golden)
    checkpoint = str(golden / "seed-0/M1/checkpoint")
    assert models.model("M1", numbers_registry) == Model("numbers", checkpoint, id="M1")
    assert models.model("M0", numbers_registry) == Model("numbers", "novice", id="M0")


def test_another_seed_is_chosen_or_refused(golden: Path) -> None:
    assert RunModels.open(golden, 0).trained() == ["M0", "M1", "M2/self-reward", "M2/random-pairs"]
    with pytest.raises(InputError, match="no seed 5; the seeds of this run are 0"):
        RunModels.open(golden, 5)


def test_the_model_of_a_plugin_answers_without_a_run(invoke: Invoke) -> None:
    result = invoke("chat", "numbers:numbers/novice", "say 7")
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[0].isdigit()


def test_a_model_without_its_plugin_is_completed_in_the_error(invoke: Invoke) -> None:
    result = invoke("chat", "Qwen/Qwen2.5-0.5B", "say 7")
    assert result.exit_code == 2
    assert "did you mean transformers:Qwen/Qwen2.5-0.5B?" in result.stderr
    missing = invoke("chat", "runs/none:M1", "say 7")
    assert missing.exit_code == 2
    assert "neither a run (runs/none contains no recipe.yaml)" in missing.stderr and "did you" not in missing.stderr


def test_on_a_terminal_lines_are_edited_and_repeated_and_the_loading_is_named(
    golden: Path, numbers_distribution: Path
) -> None:
    """The left arrow was written into the prompt as ``^[[D``."""
    skilled(golden)
    process, terminal = _chat_on_terminal(numbers_distribution, str(golden))
    screen = _read_until(terminal, "> ")
    left, up = b"\x1b[D", b"\x1b[A"
    os.write(terminal, b"say 12" + left + b"0\n")
    screen += _read_until(terminal, "\n> ")
    os.write(terminal, up + b"\n")
    screen += _read_until(terminal, "\n> ")
    os.write(terminal, b"\x04")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert status == 0
    assert screen.splitlines().count("102") == 2
    assert screen.count(LOADING) == 1


def test_on_a_terminal_an_answer_is_shown_while_it_is_generated(golden: Path, numbers_distribution: Path) -> None:
    """Ctrl-C then ends the line of the answer before the message."""
    skilled(golden)
    process, terminal = _chat_on_terminal(numbers_distribution, str(golden), "say to be continued")
    screen = _read_until(terminal, "to be c")
    os.write(terminal, b"\x03")
    screen += _read_until(terminal, "interrupted")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "to be continued" not in screen and screen.replace("^C", "").splitlines()[-2] == "to be c"


def _chat_on_terminal(plugins: Path, *arguments: str) -> tuple[int, int]:
    """Start the command on a terminal of its own. Returns its process and the terminal."""
    path = os.pathsep.join(filter(None, (str(plugins), os.environ.get("PYTHONPATH"))))
    command = [str(Path(sys.executable).with_name("tutelage")), "chat", *arguments]
    process, terminal = pty.fork()
    if process == 0:
        os.execve(command[0], command, {**os.environ, "PYTHONPATH": path, "TERM": "xterm"})
    return process, terminal


def _read_until(terminal: int, end: str) -> str:
    text = ""
    while end not in text.replace("\r", ""):
        assert select.select([terminal], [], [], 30)[0], text
        text += os.read(terminal, 4096).decode()
    return text.replace("\r", "")
