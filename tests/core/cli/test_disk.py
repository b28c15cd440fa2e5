"""A disk that does not take what is written is one error with an exit code, in each command that writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import full_disk
import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "say 1", "completion": "1"}) + "\n")
    return path


@pytest.fixture
def commands(golden: Path, prompts: Path) -> Callable[[str], list[list[object]]]:
    """Every command that writes, with an output path."""

    def with_output(out: str) -> list[list[object]]:
        ift = ["data", "import", "ift", prompts, f"{out}/ift.jsonl", "--prompt", "prompt", "--answer", "completion"]
        return [
            ["run", "embedded", "--run", f"{out}/run"],
            ["stage", "generate", prompts, "--model", "numbers:numbers/novice", "--out", f"{out}/answers.jsonl"],
            ["data", "export", golden, "M2/self-reward", f"{out}/pairs.jsonl"],
            ["data", "export", golden, "M2/self-reward", f"{out}/pairs"],
            ["export", golden, "M1", f"{out}/model"],
            ["ledger", "export", f"{out}/ledger.jsonl"],
            ["recipes", "copy", "embedded", f"{out}/recipe.yaml"],
            ift,
        ]

    return with_output


def test_a_file_where_a_folder_is_wanted_is_known_before_work(
    invoke: Invoke, commands: Callable[[str], list[list[object]]], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    for command in commands("out"):
        found = invoke(*command)
        assert found.exit_code == 2, (command, found.output)
        assert f"{tmp_path / 'out'} is a file, and a folder is needed there" in found.stderr, command
        assert len(found.stderr.splitlines()) == 1, command


def test_a_read_only_folder_is_known_before_work(
    invoke: Invoke, commands: Callable[[str], list[list[object]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    access = os.access  # root may write everywhere
    read_only = tmp_path / "out"
    monkeypatch.setattr(os, "access", lambda path, mode, **_: Path(path) != read_only and access(path, mode))
    for command in commands("out")[1:]:
        found = invoke(*command)
        assert found.exit_code == 2, (command, found.output)
        assert f"the folder {read_only} is read-only; make it writable" in found.stderr, command
    assert list(read_only.iterdir()) == []


def test_a_run_in_place_of_a_file_is_refused(invoke: Invoke, recipe_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    found = invoke("run", recipe_file(), "--run", "here")
    assert found.exit_code == 2
    assert f"{tmp_path / 'here'} is a file, and a folder is needed there" in found.stderr


def test_a_file_in_place_of_a_folder_within_a_run_is_an_error_until_it_is_moved(
    invoke: Invoke, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/evaluation").write_text("a file")
    found = invoke("run", recipe_file(**small), "--run", "here", "--quiet")
    assert found.exit_code == 6
    assert "here/evaluation is a file, and a folder is needed there" in found.stderr
    assert found.stderr.endswith("finished work is kept, and the same command continues\n")
    (tmp_path / "here/evaluation").unlink()
    assert invoke("run", recipe_file(**small), "--run", "here", "--quiet").exit_code == 0


def test_a_full_disk_behind_the_output_is_one_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    tutelage = str(Path(sys.executable).with_name("tutelage"))
    with Path("/dev/full").open("w") as full:
        found = subprocess.run([tutelage, "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert found.returncode == 6
        assert found.stderr == (
            "error: the output: cannot be used (No space left on device); free space on this disk\n"
        )
        quiet = subprocess.run([tutelage, "recipes"], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
        assert quiet.returncode == 0


def test_a_ledger_that_cannot_be_opened_is_known_before_the_first_step(
    invoke: Invoke, recipe_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUTELAGE_LEDGER", str(tmp_path / "prompts.jsonl" / "ledger.db"))
    (tmp_path / "prompts.jsonl").write_text("a file")
    service = {"plugin": "openai", "model": "m", "settings": {"base_url": "http://127.0.0.1:9/v1"}}
    models = {"student": {"plugin": "numbers", "model": "numbers/novice"}, "teacher": service, "evaluator": service}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing")
    found = invoke("run", recipe_file(models=models), "--run", "here")
    assert found.exit_code == 2, found.output
    assert "the ledger " in found.stderr and "can't be opened" in found.stderr
    assert not (tmp_path / "here").exists()


def test_a_full_disk_ends_a_run_with_one_error_and_its_exit_code(
    numbers_distribution: Path, recipe_file: Callable[..., Path], small: dict[str, Any], tmp_path: Path
) -> None:
    recipe_file(**small)
    environment = {**os.environ, "PYTHONPATH": str(numbers_distribution)}
    for after, code in ((0, 2), (40, 6)):
        program = [sys.executable, full_disk.__file__, str(tmp_path / "here"), str(after)]
        command = [*program, str(tmp_path / "count"), "run", "numbers.yaml", "--run", "here"]
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == code, found.stderr
        [error] = [line for line in found.stderr.splitlines() if not line.startswith("[")]
        assert error.startswith("error: ")
        assert full_disk.PROBLEM in error and "free space on this disk" in error
